"""Transitions of Gaussian diffusion as pure functions, in the coordinates x = x0 + sigma * n.

From noise level `high` down to `low`, with x0 estimated, the posterior of Ho et al. 2020 (arXiv 2006.11239, eq. 7) reads
mean = x0 + (low / high)^2 (x - x0), variance = low^2 (high^2 - low^2) / high^2, and DDIM (arXiv 2010.02502, eq. 12) moves along
x - x0 with eta^2 times that variance. Dividing by sqrt(abar) turns the papers' variables into these.
"""

from typing import TypeVar

from torch import Tensor

from bench.diffusion.batch import column

Level = TypeVar("Level", float, Tensor)
"""One noise level for the batch, or levels that broadcast over its images."""


def posterior_mean(x: Tensor, x0: Tensor, high: Level, low: Level) -> Tensor:
    """Mean of q(x_low | x_high, x0)."""
    return x0 + (low / high) ** 2 * (x - x0)


def posterior_variance(high: Level, low: Level) -> Level:
    """Variance of q(x_low | x_high, x0): 'fixed small', beta tilde / abar_low."""
    return low**2 * (high**2 - low**2) / high**2


def forward_variance(high: Level, low: Level) -> Level:
    """'Fixed large': beta / abar_low, with beta = 1 - abar_high / abar_low of the step actually taken."""
    return (high**2 - low**2) / (1 + high**2) * (1 + low**2)


def ddim_mean(x: Tensor, x0: Tensor, high: float, low: float, eta: float) -> Tensor:
    """DDIM's step without its noise; the noise to add has variance eta^2 * posterior_variance."""
    direction = (low**2 - eta**2 * posterior_variance(high, low)) ** 0.5 / high
    return x0 + direction * (x - x0)


def ddim_mean_batch(x: Tensor, x0: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """DDIM's deterministic step for images (B, C, H, W) at levels of their own, high and low (B,)."""
    return x0 + column(low / high, x) * (x - x0)
