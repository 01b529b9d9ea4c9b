"""Training of a cascade's two stages.

The second one sees small images under conditioning augmentation (Ho et al. 2021, arXiv 2106.15282, section 3), or as they are
(Dhariwal & Nichol 2021, arXiv 2105.05233).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.contract import Kit
from bench.data.images import padded
from bench.diffusion.denoisers.cascade import FACTOR, Refiner, blurred, condition, enlarged, shrunk
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.training.noise_prediction import LABEL_DROPOUT, backbone, eps_loss, unweighted
from bench.training.train import Loss, drop_labels, noise_like, train

NARROWEST, WIDEST = 0.4, 0.6  # pixels, the blur's standard deviation

Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""(small images z0 (B, C, h, w), table of sigmas (T,), generator) -> (z, level of its noise (B,) float64)."""

Seen = Callable[[Tensor, torch.Generator], Tensor]
"""(small images z0 (B, C, h, w), generator) -> the condition (B, C', 2h, 2w) that the second stage is trained on."""


def fit_small_denoiser(kit: Kit, what: str) -> EpsDenoiser:
    """The first stage: the shared U-Net for images of half the size, trained as the base denoiser is."""
    base = EpsDenoiser(backbone(kit, size=padded(kit.workload.shape)[1] // FACTOR)).to(kit.device)
    loss = eps_loss(base, unweighted, shrunk)
    return train(base, loss, kit, images_seen=kit.budget.train_images, what=what)


def build_refiner(kit: Kit, told: int) -> Refiner:
    """The second stage, untrained: the shared U-Net for full-size images, with `told` further channels for the condition."""
    channels = kit.workload.shape[0]
    return Refiner(backbone(kit, channels=channels + told, outputs=channels)).to(kit.device)


def fit_refiner(refiner: Refiner, loss: Loss, kit: Kit, what: str) -> Refiner:
    """Trained as the base denoiser is, on batches of its own."""
    return train(refiner, loss, kit, images_seen=kit.budget.train_images, what=what, seed=1)


def unchanged(z: Tensor, table: Tensor, _generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """No augmentation."""
    return z, table.new_zeros(len(z))


def noised(z: Tensor, table: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian noise of a level drawn evenly from 0 and the table's, for each image: one network for every s (section 3)."""
    levels = torch.cat([table.new_zeros(1), table])
    sigma = levels[torch.randint(len(levels), (len(z),), generator=generator, device=z.device)]
    return z + sigma.to(z.dtype)[:, None, None, None] * noise_like(z, generator), sigma


def half_blurred(z: Tensor, table: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A blur of random width over half of the images; none in sampling (section 3.1)."""
    chance = torch.rand((2, len(z)), generator=generator, device=z.device)
    soft = blurred(z, NARROWEST + (WIDEST - NARROWEST) * chance[0])
    return torch.where((chance[1] < 0.5)[:, None, None, None], soft, z), table.new_zeros(len(z))


def clean(z: Tensor, _generator: torch.Generator) -> Tensor:
    """The condition of a second stage without augmentation: the small images, enlarged."""
    return enlarged(z)


def refiner_loss(refiner: Refiner, augment: Augment) -> Loss:
    """The squared error of the noise, given the image's own small image, augmented, and the level of its noise."""
    table = refiner.sigmas
    return enlarging_loss(refiner, lambda z, generator: condition(*augment(z, table, generator)))


def enlarging_loss(refiner: Refiner, seen: Seen) -> Loss:
    """The squared error of the noise, given what is `seen` of the image's own small image."""
    table = refiner.sigmas

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        given = seen(shrunk(images), generator)
        sigma = table[torch.randint(len(table), (len(images),), generator=generator, device=images.device)]
        spread = sigma.to(images.dtype)[:, None, None, None]
        kept = drop_labels(labels, LABEL_DROPOUT, refiner.null, generator)
        guess = refiner(images + spread * noise_like(images, generator), sigma, kept, given)
        return ((guess - images) / spread).square().mean()

    return loss
