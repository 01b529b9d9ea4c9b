"""Diffusion in a few large steps, whose reverse draws x0 from an implicit model and then the step's exact posterior.

Xiao, Kreis & Vahdat 2022 (arXiv 2112.07804, eq. 4 to 6): p(x_low | x_high) = E_z q(x_low | x_high, x0 = G(x_high, z)), which may have
many modes, as the true posterior of a large step has. In the coordinates x = x0 + sigma * n; the critic sees states of unit variance.
"""

import torch
from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.denoisers.parametrise import ScheduledDenoiser, Wrapped
from bench.diffusion.gaussian import posterior_mean, posterior_variance
from bench.diffusion.solvers.sde import sigma_at
from bench.nets.adversarial import Mapping
from bench.nets.unet import UNet


def large_steps(steps: int) -> Tensor:
    """Descending sigmas (steps + 1,), float64, of the variance-preserving SDE at equal distances in time, closed by 0 (appendix A)."""
    return sigma_at(torch.arange(steps, -1, -1, dtype=torch.float64) / steps)


class LatentGenerator(ScheduledDenoiser):
    """G: x0 (B, C, H, W) in [-1, 1], drawn given x by a latent z (B, latent), by a U-Net that takes z in its embedding."""

    def __init__(self, net: UNet, latent: int, layers: int) -> None:
        super().__init__(net)
        self.latent = latent
        self.mapping = Mapping(latent, 4 * net.width, layers)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        assert z is not None, "the generator needs a latent"
        x_t, t, _ = self.scaled(x, sigma)
        return torch.tanh(self.net(x_t, t, labels, self.mapping(z)))


class Drawing(Wrapped):
    """A generator, called as (x, sigma, labels, z), with a new latent z (B, latent) from `draws` for every call."""

    def __init__(self, generator: Denoiser, draws: Draws, latent: int) -> None:
        super().__init__(generator)
        self.draws, self.latent = draws, latent

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.denoiser(x, sigma, labels, self.draws.normal(self.latent))


def forward_pair(x0: Tensor, high: Tensor, low: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(x_low, x_high) of the forward chain from x0 (B, C, H, W), by two unit noises; levels (B, 1, 1, 1)."""
    x_low = x0 + low * first
    return x_low, x_low + (high.square() - low.square()).sqrt() * second


def reverse_draw(x_high: Tensor, x0: Tensor, high: Tensor, low: Tensor, noise: Tensor) -> Tensor:
    """x_low from q(x_low | x_high, x0), by a unit noise; levels (B, 1, 1, 1)."""
    return posterior_mean(x_high, x0, high, low) + posterior_variance(high, low).sqrt() * noise


def unit(x: Tensor, sigma: Tensor) -> Tensor:
    """x (B, C, H, W) at levels sigma (B, 1, 1, 1), brought to unit variance."""
    return x / (1 + sigma.square()).sqrt()
