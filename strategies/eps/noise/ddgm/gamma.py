"""Centred Gamma noise, in the coordinates x = x0 + sigma * n.

Nachmani, San Roman & Wolf 2021 (arXiv 2110.05948, section 3): x_t = sqrt(abar_t) x0 + (g - k_t theta_t), g ~ Gamma(k_t, theta_t), with
theta_t = sqrt(abar_t) theta_0 and k_t = (1 - abar_t) / (abar_t theta_0^2). Divided by sqrt(abar_t) the noise is theta_0 (G - k) with
G ~ Gamma(k, 1) and k = (sigma / theta_0)^2: a Gamma process in sigma^2 with independent increments. Hence n = (G - k) / sqrt(k), of mean 0,
variance 1 and skewness 2 / sqrt(k), and n is normal in the limit theta_0 -> 0.
"""

import torch
from torch import Tensor

from bench.contract import Draws
from bench.diffusion.loops import LevelNoise

PROPOSALS = 4


def gamma_shape(sigma: Tensor, theta_0: float) -> Tensor:
    """k of the noise accumulated up to level sigma, in its shape and float64."""
    return (sigma.double() / theta_0).square()


def standard_gamma(k: Tensor, draws: Draws, *shape: int) -> Tensor:
    """(G - k) / sqrt(k) with G ~ Gamma(k, 1): (B, *shape) float64, for shapes k > 0 float64 that broadcast to it.

    Marsaglia & Tsang 2000 (doi 10.1145/358407.358414) with a fixed number of proposals, so that images stay independent of each other: the
    first accepted one counts. A proposal is refused with probability below 0.05, hence the law is within 0.05^4 = 6e-6 of Gamma's in total
    variation. The proposal d (1 + r)^3 is never formed for large k: d ((1 + r)^3 - 1) = 3 d s loses no digits to the subtraction of k.
    """
    d = torch.where(k < 1, k + 1, k) - 1 / 3  # below 1: Gamma(k) = Gamma(k + 1) U^(1 / k)
    excess, accepted = torch.zeros((), dtype=torch.float64, device=k.device), torch.zeros((), dtype=torch.bool, device=k.device)
    for _ in range(PROPOSALS):
        x, u = draws.normal(*shape).double(), draws.uniform(*shape).double()
        r = (x / (3 * d.sqrt())).clamp_min(-1)
        s = r + r.square() + r**3 / 3
        excess = torch.where(accepted, excess, 3 * d * s - 1 / 3)  # d (1 + r)^3 - (d + 1 / 3)
        accepted = accepted | (torch.log1p(-u) < x.square() / 2 + 3 * d * (torch.log1p(r) - s))  # never at r = -1
    power = draws.uniform(*shape).double() ** (1 / k)
    centred = torch.where(k < 1, (k + 1 + excess) * power - k, excess)
    return centred / k.sqrt()


def gamma_noise(draws: Draws, theta_0: float, shape: tuple[int, int, int], device: torch.device) -> LevelNoise:
    """Noise (B, *shape) as the Gamma process has it at each level, scaled to variance 1."""

    def noise(sigma: float) -> Tensor:
        level = torch.full((), sigma, dtype=torch.float64, device=device)
        return standard_gamma(gamma_shape(level, theta_0), draws, *shape).float()

    return noise


def beta_as_deviation(high: float, low: float) -> float:
    """Algorithm 4's sigma_t = beta_t, a standard deviation, as a variance in these coordinates: beta^2 / abar_low.

    beta = 1 - abar_high / abar_low = (high^2 - low^2) / (1 + high^2) is that of the step actually taken.
    """
    return ((high**2 - low**2) / (1 + high**2)) ** 2 * (1 + low**2)
