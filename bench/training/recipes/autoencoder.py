"""The autoencoder whose latents are diffused."""

import torch
from torch import Tensor

from bench.contract import Kit
from bench.data.images import to_model
from bench.nets.autoencoder import Autoencoder
from bench.nets.ema import seeded
from bench.training.recipe import Recipe
from bench.training.train import noise_like, train

KL_WEIGHT = 1e-4
AUTOENCODER_SHARE = 0.4  # of the budget's images


def build_autoencoder(kit: Kit) -> Autoencoder:
    """Untrained; four latent channels for each of the image's."""
    c = kit.workload.shape[0]
    with seeded(kit.seed):
        return Autoencoder(c, latent=4 * c, width=kit.budget.width).to(kit.device)


def fit_autoencoder(net: Autoencoder, kit: Kit, what: str) -> Autoencoder:
    """L2 + L1 reconstruction and a small divergence of the posterior from the unit normal; no perceptual or adversarial term."""

    def loss(images: Tensor, _labels: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = net.posterior(images)
        z = mean + (0.5 * log_variance).exp() * noise_like(mean, generator)
        error = net.decode(z) - images
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return error.square().mean() + 0.1 * error.abs().mean() + KL_WEIGHT * divergence

    seen = round(AUTOENCODER_SHARE * kit.budget.train_images)
    trained = train(net, loss, kit, images_seen=seen, what=what)
    with torch.no_grad():
        trained.decoder.scale.copy_(trained.posterior(to_model(kit.images[:2048]))[0].std())
    return trained


RECIPE = Recipe(build_autoencoder, fit_autoencoder)
