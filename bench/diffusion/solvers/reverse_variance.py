"""The variance of a reverse step: fixed, or predicted by the network between its two bounds, with the loss that teaches it.

Nichol & Dhariwal 2021 (arXiv 2102.09672, section 3.1), as used by Dhariwal & Nichol 2021 (arXiv 2105.05233, section 2): the second half of
the network's output is v in [-1, 1] where taught well, and log variance = f log beta + (1 - f) log beta~ with f = (v + 1) / 2. Both bounds
are divided by abar of the lower level in the coordinates x = x0 + sigma * n, which leaves the interpolation as it is.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.diffusion.batch import column, everywhere
from bench.diffusion.denoisers.parametrise import ScheduledDenoiser
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.likelihood import discretised_gaussian

Reverse = Callable[[Tensor, float, float], tuple[Tensor, Tensor | float]]
"""(x at level `high`, high, low) -> (x0 estimate (B, C, H, W), variance of the step to `low`, one number or one for each pixel)."""


def smallest_variance(sigmas: Tensor) -> float:
    """In place of 0, the posterior variance of the last step: that of the chain's step before it, from its increasing sigmas (T,)."""
    low, high = sigmas[:2].tolist()
    return posterior_variance(high, low)


class HybridDenoiser(ScheduledDenoiser):
    """Noise prediction by a network whose outputs may be doubled, the second half being v."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.heads(x, sigma, labels)[0]

    def heads(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """(x0 estimate (B, C, H, W), v (B, C, H, W), or (B, 0, H, W) of a network without it), by one call of the network."""
        x_t, t, _ = self.scaled(x, sigma)
        out, channels = self.net(x_t, t, labels), x.shape[1]
        return x - column(sigma, x) * out[:, :channels], out[:, channels:]


def small_variance(denoiser: Denoiser, given: Tensor | None) -> Reverse:
    """beta~ at every pixel; `given` are the labels (B,) that the denoiser is told, or None. x0 is clipped to [-1, 1]."""

    def reverse(x: Tensor, high: float, low: float) -> tuple[Tensor, float]:
        return denoiser(x, everywhere(high, x), given).clamp(-1, 1), posterior_variance(high, low)

    return reverse


def learned_variance(denoiser: HybridDenoiser, given: Tensor | None) -> Reverse:
    """The same with the variance that the network predicts."""

    smallest = smallest_variance(denoiser.sigmas)

    def reverse(x: Tensor, high: float, low: float) -> tuple[Tensor, Tensor]:
        x0, v = denoiser.heads(x, everywhere(high, x), given)
        return x0.clamp(-1, 1), interpolated(v, *log_bounds(high, low, smallest))

    return reverse


def log_bounds(high: float, low: float, smallest: float) -> tuple[float, float]:
    """(log beta~, log beta) of the step from `high` to `low`, the former at least `smallest`, as in the paper's code."""
    return math.log(max(posterior_variance(high, low), smallest)), math.log(forward_variance(high, low))


def interpolated(v: Tensor, log_small: Tensor | float, log_large: Tensor | float) -> Tensor:
    """The variance (B, C, H, W) for v (B, C, H, W), equation 15."""
    share = (v + 1) / 2
    return (share * log_large + (1 - share) * log_small).exp()


def chain(sigmas: Tensor) -> Tensor:
    """Rows (T, 4) float64 of (high, low, log beta~, log beta) for each step down the increasing sigmas (T,), the first ends in 0."""
    lows, smallest = [0.0, *sigmas.tolist()], smallest_variance(sigmas)
    return torch.tensor([(high, low, *log_bounds(high, low, smallest)) for low, high in itertools.pairwise(lows)], dtype=torch.float64)


def bound_bits(x0: Tensor, guess: Tensor, v: Tensor, steps: Tensor) -> Tensor:
    """One term (B,) of the bound in bits per dimension, for rows `steps` (B, 4) of `chain`, guess and x0 (B, C, H, W).

    KL(N(m, exact) || N(m', model)) per pixel, m - m' = (1 - (low / high)^2) (x0 - guess); where low = 0 it is the decoder's -log p(x0).
    """
    high, low, log_small, log_large = (column[:, None, None, None] for column in steps.unbind(1))
    model = interpolated(v.double(), log_small, log_large)
    apart = (1 - (low / high).square()) * (x0 - guess).double()
    divergence = (model.log() - log_small + (log_small.exp() + apart.square()) / model - 1) / 2
    decoder = -discretised_gaussian(x0, guess, model.sqrt())
    return torch.where(low > 0, divergence, decoder).flatten(1).mean(1) / math.log(2)
