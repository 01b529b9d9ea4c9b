"""Restoring images from y = H x0 + noise_std * n, direction by direction of H = U S V^T.

Kawar et al. 2022 (arXiv 2201.11793, equations 6 to 8), in their coordinates V^T x with x = x0 + sigma * n. Along a direction of singular
value s > 0 the observation says y' = x0' + (noise_std / s) n' with y' = (U^T y) / s; along s = 0 it says nothing.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contract import Denoiser, Draws, Operator
from bench.diffusion.loops import estimate


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What an observation says along each direction: `value` (B, d), and the standard deviation `error` (d,) of its noise, or infinity."""

    operator: Operator
    value: Tensor
    error: Tensor

    @staticmethod
    def of(operator: Operator, observed: Tensor, noise_std: float) -> "Evidence":
        """From y (B, rows); `noise_std` is the noise that it is taken to have."""
        s = operator.singular_values
        seen = s > 0
        scale = torch.where(seen, s, 1.0)
        value = torch.where(seen, operator.observed_spectrum(observed) / scale, 0.0)
        return Evidence(operator=operator, value=value, error=torch.where(seen, noise_std / scale, torch.inf))


def pseudo_inverse(evidence: Evidence) -> Tensor:
    """V S^+ U^T y, (B, C, H, W): zero, mid-grey, along directions that were not seen."""
    return evidence.operator.from_spectrum(evidence.value)


def restored(
    denoiser: Denoiser,
    evidence: Evidence,
    sigmas: Tensor,
    labels: Tensor | None,
    draws: Draws,
    shape: tuple[int, int, int],
    eta: float,
    eta_b: float,
) -> Tensor:
    """The chain over descending sigmas (S + 1,) that end in 0; states (B, *shape)."""
    grid, operator = sigmas.tolist(), evidence.operator
    z = first(evidence, grid[0], spectrum_noise(draws, shape, evidence))
    for high, low in itertools.pairwise(grid):
        x0 = operator.to_spectrum(estimate(denoiser, operator.from_spectrum(z), high, labels, clip=False))
        z = step(z, x0, evidence, high, low, eta, eta_b, spectrum_noise(draws, shape, evidence) if low > 0 else torch.zeros_like(z))
    return operator.from_spectrum(z)


def first(evidence: Evidence, sigma: float, noise: Tensor) -> Tensor:
    """z (B, d) at the highest level: about y' where the observation is the sharper, else pure noise as every chain here begins (eq. 6)."""
    known = evidence.error <= sigma
    spread = torch.where(known, (sigma**2 - evidence.error**2).clamp(min=0), 1 + sigma**2).sqrt()
    return torch.where(known, evidence.value, 0.0) + spread * noise


def step(z: Tensor, x0: Tensor, evidence: Evidence, high: float, low: float, eta: float, eta_b: float, noise: Tensor) -> Tensor:
    """z (B, d) at level `high` -> at level `low`, given the estimate x0 (B, d) and unit noise (B, d), equations 7 and 8.

    Three kinds of direction: mute (DDIM with eta); observed with more noise than the level has (drawn to y' and not to z); with less (y').
    """
    error, mute = evidence.error, evidence.error.isinf()
    sharp = error <= low
    pull = torch.where(mute, (z - x0) / high, (evidence.value - x0) / torch.where(mute | (error == 0), 1.0, error))
    blunt_mean, blunt_spread = x0 + (1 - eta**2) ** 0.5 * low * pull, torch.full_like(error, eta * low)
    sharp_mean = (1 - eta_b) * x0 + eta_b * evidence.value
    sharp_spread = (low**2 - (eta_b * torch.where(sharp, error, 0.0)) ** 2).clamp(min=0).sqrt()
    return torch.where(sharp, sharp_mean, blunt_mean) + torch.where(sharp, sharp_spread, blunt_spread) * noise


def spectrum_noise(draws: Draws, shape: tuple[int, int, int], evidence: Evidence) -> Tensor:
    """Unit noise (B, d): drawn in pixels and turned, so that a mute operator sees the noise that any sampler sees."""
    return evidence.operator.to_spectrum(draws.normal(*shape))
