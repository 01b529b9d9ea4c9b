"""The denoiser of the autoencoder's latents."""

import torch

from bench.cards import AssetName
from bench.contract import Kit
from bench.data.images import padded
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.nets.autoencoder import codec_of
from bench.training.noise_prediction import backbone, eps_loss, unweighted
from bench.training.recipe import Recipe
from bench.training.train import train


def build_latent_denoiser(kit: Kit) -> EpsDenoiser:
    """An untrained denoiser of the latents of the kit's autoencoder."""
    codec = codec_of(kit)
    size = padded(kit.workload.shape)[1] // codec.factor
    return EpsDenoiser(backbone(kit, channels=codec.latent, size=size)).to(kit.device)


def fit_latent_denoiser(denoiser: EpsDenoiser, kit: Kit, what: str) -> EpsDenoiser:
    """Train it on encoded images, same schedule and loss as the pixel one."""
    encode = torch.no_grad()(codec_of(kit).encode)
    loss = eps_loss(denoiser, unweighted, encode)
    return train(denoiser, loss, kit, images_seen=kit.budget.train_images, what=what)


RECIPE = Recipe(build_latent_denoiser, fit_latent_denoiser, needs=(AssetName.AUTOENCODER,))
