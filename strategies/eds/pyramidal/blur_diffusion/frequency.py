"""Diffusion whose frequencies die at speeds of their own: the cosine transform, the blur's schedule, the reverse chain and its bound.

Lee, Chung, Kim & Ye 2022 (arXiv 2207.11192): every step blurs the image a little and adds noise. In the basis U of the blur, here the
cosines of the type-II transform, which diagonalise any even kernel on an image mirrored at its edges, a frequency of response D is a
variance-preserving chain with

    B_i = (1 - beta_i) D^(2 f(i)),    Bbar_t = B_1 ... B_t,    u_t = sqrt(Bbar_t) u_0 + sqrt(1 - Bbar_t) n,

so that all of Ho et al. 2020 (arXiv 2006.11239) holds frequency by frequency. Without blur (f = 0) it is their chain, turned by U.
`spectrum` means the coefficients (B, C, H, W) in U; white noise is white in U too. Schedules are given as log Bbar in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.contract import Draws
from bench.diffusion.likelihood import discretised_gaussian

Estimate = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(spectrum u_t (B, C, H, W), index of the step) -> the estimate of x0, as pixels and as a spectrum (B, C, H, W)."""

FLOOR = 0.03  # of the blur's response, as in the authors' code: what is wiped out at once could not be brought back


def cosine_basis(size: int) -> Tensor:
    """The orthonormal cosine transform of type II (size, size), float64: row k is the cosine of frequency k."""
    place = torch.arange(size, dtype=torch.float64)
    basis = (2 / size) ** 0.5 * torch.cos(math.pi / size * place[:, None] * (place + 0.5))
    basis[0] /= 2**0.5
    return basis


def to_spectrum(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Spectrum (B, C, H, W) of images, with the bases rows (H, H) and columns (W, W)."""
    return ((x @ columns.T).mT @ rows.T).mT


def to_pixels(u: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (B, C, H, W) of a spectrum."""
    return ((u @ columns).mT @ rows).mT


def blur_response(height: int, width: int, sd: float) -> Tensor:
    """D (H, W), float64: factors by which a Gaussian blur of `sd` pixels damps each pair of cosines, never below `FLOOR`."""
    return (axis_response(height, sd)[:, None] * axis_response(width, sd)).clamp_min(FLOOR)


def axis_response(size: int, sd: float) -> Tensor:
    """Response (size,) of each cosine to a Gaussian kernel sampled at 1 - size..size - 1 pixels, of sum 1."""
    reach = torch.arange(1 - size, size, dtype=torch.float64)
    weights = torch.exp(-0.5 * (reach / sd).square())
    angles = math.pi / size * torch.arange(size, dtype=torch.float64)[:, None] * reach
    return torch.cos(angles) @ (weights / weights.sum())


def quartic_strength(last: float, steps: int) -> Tensor:
    """f(1) + ... + f(t) for t = 1..steps (steps,), float64, with f(i) = last (i / steps)^4: most of the blur comes late (table 1)."""
    return last * (torch.arange(1, steps + 1, dtype=torch.float64) / steps).pow(4).cumsum(0)


def coefficients(log_keep: Tensor) -> tuple[Tensor, Tensor]:
    """(sqrt(Bbar), sqrt(1 - Bbar)): what is left of the signal, and the noise."""
    return (log_keep / 2).exp(), (-torch.expm1(log_keep)).sqrt()


def posterior(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c, d, variance) of q(u_low | u_high, u_0) = N(c u_high + d u_0, variance) for log Bbar high and low (..., H, W)."""
    (_, noise_high), (signal_low, noise_low) = coefficients(high), coefficients(low)
    shrink = (noise_low / noise_high).square()
    new = 1 - shrink * (high - low).exp()  # 1 - SNR_high / SNR_low
    return shrink * ((high - low) / 2).exp(), signal_low * new, noise_low.square() * new


def ancestral(estimate: Estimate, u: Tensor, log_keep: Tensor, draws: Draws) -> Tensor:
    """Images (B, C, H, W) by the reverse chain from spectrum u (B, C, H, W) over log Bbar (S, H, W) of descending times.

    The chain's last step returns the estimate, without noise.
    """
    pixels, spectrum = estimate(u, 0)
    c, d, variance = posterior(log_keep[:-1], log_keep[1:])
    for step, (old, new, sd) in enumerate(zip(c.to(u.dtype), d.to(u.dtype), variance.sqrt().to(u.dtype), strict=True), start=1):
        u = old * u + new * spectrum + sd * draws.normal(*u.shape[1:])
        pixels, spectrum = estimate(u, step)
    return pixels


def bound(estimate: Estimate, x0: Tensor, u0: Tensor, log_keep: Tensor, draws: Draws) -> Tensor:
    """Upper bound (B,) in nats per image of the chain that `ancestral` runs, for grey levels x0 (B, C, H, W) with spectrum u0.

    Ho et al. 2020, eq. 5: prior, divergences, decoder. Reverse and posterior have one variance, so that a divergence is
    (SNR_low - SNR_high) (u_0 - guess)^2 / 2 summed over frequencies; the decoder's variance is the noise of the mean grey. One draw of
    noise a term.
    """
    clean, snr = u0.double(), log_keep.exp() / -torch.expm1(log_keep)
    signal, noise = coefficients(log_keep)
    prior = 0.5 * (signal[0].square() * clean.square() + noise[0].square() - 1) - noise[0].log()
    nats = prior.flatten(1).sum(1)
    for step in range(len(log_keep)):
        u = signal[step].to(u0.dtype) * u0 + noise[step].to(u0.dtype) * draws.normal(*u0.shape[1:])
        pixels, spectrum = estimate(u, step)
        if step + 1 < len(log_keep):
            nats = nats + (0.5 * (snr[step + 1] - snr[step]) * (clean - spectrum).square()).flatten(1).sum(1)
    return nats - discretised_gaussian(x0, pixels, noise[-1, 0, 0]).flatten(1).sum(1)
