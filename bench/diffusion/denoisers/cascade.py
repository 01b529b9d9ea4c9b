"""A cascade of two diffusion models: one of images of half the size, one of full-size images that is given a small one.

Ho et al. 2021 (arXiv 2106.15282, sections 2 and 3). The small image of x0 is z0, the means of its 2x2 blocks. The second stage is given
z = z0 + sigma_s n, Gaussian conditioning augmentation, and is told sigma_s; or, in Dhariwal & Nichol 2021 (arXiv 2105.05233), z0 alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.contract import Denoiser
from bench.diffusion.batch import column
from bench.diffusion.denoisers.parametrise import ScheduledDenoiser, Wrapped
from bench.diffusion.schedules import alpha_bar_of

FACTOR = 2


def shrunk(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H/2, W/2), the means of the blocks."""
    return F.avg_pool2d(x, FACTOR)


def enlarged(z: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w), bilinearly: what the second stage sees of small images without noise."""
    return F.interpolate(z, scale_factor=float(FACTOR), mode="bilinear", align_corners=False)


def condition(z: Tensor, sigma: Tensor) -> Tensor:
    """What the second stage sees of small images z (B, C, h, w) with noise of levels sigma (B,): (B, C + 1, 2h, 2w).

    a z with a = 1 / sqrt(1 + sigma^2), enlarged bilinearly, and the standard deviation a sigma of its noise as a constant channel.
    """
    a = alpha_bar_of(sigma).sqrt()
    image = enlarged(column(a, z) * z)
    told = column(a * sigma, z).expand(-1, 1, *image.shape[2:])
    return torch.cat([image, told], dim=1)


class Refiner(ScheduledDenoiser):
    """Noise prediction for full-size images by a network that takes the condition as further channels."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), sigma (B,), labels (B,) or None, condition (B, C', H, W) -> x0 estimate (B, C, H, W)."""
        assert condition is not None, "the second stage needs a condition"
        x_t, t, _ = self.scaled(x, sigma)
        return x - column(sigma, x) * self.net(torch.cat([x_t, condition], dim=1), t, labels)


class Given(Wrapped):
    """A second stage, called as (x, sigma, labels, condition), with its condition: E[x0 | x, z]."""

    def __init__(self, refiner: Denoiser, condition: Tensor) -> None:
        super().__init__(refiner)
        self.condition = condition

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.denoiser(x, sigma, labels, self.condition)


class Cascade(nn.Module):
    """The two stages: `base` of small images, `refiner` of full-size ones."""

    def __init__(self, base: Denoiser, refiner: Denoiser) -> None:
        super().__init__()
        self.base, self.refiner = base, refiner


def cut(sigmas: Tensor, last: float) -> Tensor:
    """A sampler's descending grid (S + 1,) as far as it lies above `last`, closed by it: the chain that stops early."""
    return torch.cat([sigmas[sigmas > last], sigmas.new_tensor([last])])


def blurred(z: Tensor, sd: Tensor) -> Tensor:
    """z (B, C, h, w) under a normalised 3x3 Gaussian kernel of standard deviations sd (B,) in pixels; the edge is repeated."""
    side = (-0.5 / sd.square()).exp()
    kernel = (torch.stack([side, torch.ones_like(side), side]) / (1 + 2 * side)).to(z.dtype)[:, :, None, None, None]
    wide, (h, w) = F.pad(z, (1, 1, 1, 1), mode="replicate"), z.shape[2:]
    rows = sum((kernel[k] * wide[:, :, k : k + h] for k in range(3)), torch.zeros_like(wide[:, :, :h]))
    return sum((kernel[k] * rows[..., k : k + w] for k in range(3)), torch.zeros_like(z))
