"""The base denoiser of the data's images."""

from bench.contract import Kit
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.training.noise_prediction import Weight, backbone, eps_loss, unweighted
from bench.training.recipe import Recipe
from bench.training.train import train


def build_denoiser(kit: Kit) -> EpsDenoiser:
    """An untrained class-conditional noise-prediction denoiser of the kit's images, T = 1000 linear."""
    return EpsDenoiser(backbone(kit)).to(kit.device)


def fit_denoiser(denoiser: EpsDenoiser, kit: Kit, what: str, weight: Weight = unweighted) -> EpsDenoiser:
    """Train it on the kit's images with label dropout 0.1."""
    loss = eps_loss(denoiser, weight)
    return train(denoiser, loss, kit, images_seen=kit.budget.train_images, what=what)


RECIPE = Recipe(build_denoiser, fit_denoiser)
