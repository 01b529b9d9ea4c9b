"""The optimal variance of a reverse step, known from the mean square of the noise that a network predicts.

Bao et al. 2022 (arXiv 2201.06503). In the coordinates x = x0 + sigma n, q(x_low | x_high, x0) has the mean x0 + c (x - x0) and the variance
lambda^2 with c^2 high^2 + lambda^2 = low^2: DDPM's, or DDIM's. The Gaussian p(x_low | x_high) that fits it best has its mean at
x0 = E[x0 | x_high] and, where one variance serves all pixels, the variance (theorem 1)

    lambda^2 + (1 - c)^2 v,    v = E Var(x0 | x_high) / d = high^2 (1 - G),    G = E |eps|^2 / d, the paper's (1 - abar) Gamma (eq. 8).

As G >= 0 and pixels lie in [-1, 1], 0 <= v <= min(high^2, 1) (theorem 2).
"""

import math

import torch
from scipy.optimize import isotonic_regression
from torch import Tensor, nn

from bench.contract import Denoiser
from bench.diffusion.gaussian import Level, posterior_variance
from bench.diffusion.likelihood import HALF_BIN
from bench.diffusion.loops import Variance
from bench.diffusion.solvers.stride import LONGEST, cheapest_paths


class Analysed(nn.Module):
    """A denoiser with v at every level of its chain, `sigmas` and `spread` (T,) float64."""

    sigmas: Tensor
    spread: Tensor

    def __init__(self, denoiser: Denoiser, sigmas: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("sigmas", sigmas)
        self.register_buffer("spread", spread)

    def variance(self, eta: float) -> Variance:
        """The optimal variance of steps that begin at levels of the chain; without noise left (low = 0) it is v."""
        spread = dict(zip(self.sigmas.tolist(), self.spread.tolist(), strict=True))
        return lambda high, low: optimal_variance(high, low, spread[high], eta)


class AnalysedChain(Analysed):
    """With DDPM's optimal paths: row K - 1 of `paths` (K', K') begins with the descending times of the best K >= 2 levels."""

    paths: Tensor

    def __init__(self, denoiser: Denoiser, sigmas: Tensor, spread: Tensor) -> None:
        super().__init__(denoiser, sigmas, spread)
        nodes = cheapest_paths(path_costs(sigmas, spread), LONGEST - 1)[1]
        self.register_buffer("paths", torch.cat([nodes.new_zeros(1, LONGEST), nodes]).short())


def noise_power(predicted: Tensor, drawn: Tensor) -> Tensor:
    """G (T,) from mean squares of the noise predicted and of that drawn, both (T, M), of M images, not all alike, at each of T levels.

    At high noise the two go together and E |n|^2 / d = 1 is known: regression on it makes few images suffice where v = high^2 (1 - G) is
    the small difference of large numbers. At low noise they do not, and the slope is about zero.
    """
    known = drawn - drawn.mean(1, keepdim=True)
    slope = (predicted * known).sum(1) / known.square().sum(1)
    return predicted.mean(1) - slope * (drawn.mean(1) - 1)


def bounded_spread(sigmas: Tensor, power: Tensor) -> Tensor:
    """v (T,) at increasing levels `sigmas` (T,) from G (T,): the closest that does not fall with sigma, held to its bounds.

    Noise takes away what is known of x0 (the MMSE grows with the noise, Guo et al. 2011, arXiv 1004.3332), but an estimate of 1 - G, or a
    network that overshoots, may fall and reach 0; an optimal path would follow such levels. The errors of G being alike, those of v grow
    as sigma^2, so the squares are weighted by sigma^-4.
    """
    estimate, weight = sigmas.square() * (1 - power), sigmas**-4
    rising = isotonic_regression(estimate.cpu().numpy(), weights=weight.cpu().numpy()).x
    return torch.minimum(torch.from_numpy(rising).to(sigmas), sigmas.square()).clamp(0, 1)


def optimal_variance(high: Level, low: Level, spread: Level, eta: float) -> Level:
    """lambda^2 + (1 - c)^2 v, with DDIM's eta: lambda^2 = eta^2 beta~, 1 for DDPM; v = 0 leaves lambda^2."""
    kept = eta**2 * posterior_variance(high, low)
    c = (low**2 - kept) ** 0.5 / high
    return kept + (1 - c) ** 2 * spread


def path_costs(sigmas: Tensor, spread: Tensor) -> Tensor:
    """J / 2 (T, T) in nats a pixel for the step from level t (row) down to s (column), infinite unless s < t (eq. 14, DDPM's lambda).

    With the optimal variance the divergence is log(variance / lambda^2) / 2; `sigmas` are increasing.
    """
    high, low = sigmas[:, None], sigmas[None, :]
    gain = (optimal_variance(high, low, spread[:, None], 1.0) / posterior_variance(high, low)).log() / 2
    return gain.where(low < high, torch.inf)


def gentle_end(variance: Variance, last: float, grey_levels: float) -> Variance:
    """`variance` with the noise added on the way to the `last` level above 0 held to E |noise| <= `grey_levels` of 256 (appendix F.2)."""
    limit = math.pi / 2 * (grey_levels * 2 * HALF_BIN) ** 2 * (1 + last**2)  # of x / sqrt(abar)

    def held(high: float, low: float) -> float:
        return min(variance(high, low), limit) if low == last else variance(high, low)

    return held
