"""Noise schedules as tables of sigma = sqrt((1 - abar) / abar), the noise-to-signal ratio, in float64.

Times are integers 0..T-1 in the convention of diffusers: time t carries the cumulative product over the first t + 1 betas.
"""

import math

import torch
from torch import Tensor

T = 1000
SLACK = 0.01  # share of a table's end by which a level may lie beyond it: rounding, not another chain


def linear_alpha_bar(steps: int = T, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Cumulative products abar (T,) of the linear schedule of Ho et al. 2020 (arXiv 2006.11239, section 4)."""
    return torch.cumprod(1.0 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)


def scaled_linear_alpha_bar(steps: int = T, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """abar (T,) with square roots of beta that are equally spaced, the schedule of latent diffusion (arXiv 2112.10752, released code)."""
    return torch.cumprod(1.0 - torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square(), dim=0)


def cosine_alpha_bar(steps: int = T, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """abar (T,) of Nichol & Dhariwal 2021 (arXiv 2102.09672, eq. 17), betas held to `largest`."""
    angles = (torch.arange(steps + 1, dtype=torch.float64) / steps + offset) / (1 + offset) * math.pi / 2
    kept = angles.cos().square()
    return torch.cumprod(1.0 - (1.0 - kept[1:] / kept[:-1]).clamp(max=largest), dim=0)


def sigma_of(alpha_bar: Tensor) -> Tensor:
    """sigma = sqrt((1 - abar) / abar)."""
    return ((1.0 - alpha_bar) / alpha_bar).sqrt()


def alpha_bar_of(sigma: Tensor) -> Tensor:
    """abar = 1 / (1 + sigma^2)."""
    return 1.0 / (1.0 + sigma.square())


def within(sigma: Tensor, table: Tensor) -> Tensor:
    """Levels (B,) held to the increasing table (T,), of which they may miss the ends by rounding.

    RuntimeError for a level outside of it: a network knows nothing of it, and would answer for another one. Nothing waits for the device.
    """
    inside = (sigma >= table[0] * (1 - SLACK)) & (sigma <= table[-1] * (1 + SLACK))
    torch._assert_async(inside.all(), "a noise level lies outside of those that the network was trained on")
    return sigma.to(table.dtype).clamp(table[0], table[-1])


def time_of(sigma: Tensor, table: Tensor) -> Tensor:
    """Float times (B,) at which the increasing table (T,) of sigmas reaches sigma (B,), linear in log sigma between its entries.

    RuntimeError for a level outside of the table.
    """
    logs = table.log()
    wanted = within(sigma, table).log()
    right = torch.searchsorted(logs, wanted).clamp(1, len(table) - 1)
    low, high = logs[right - 1], logs[right]
    return right - 1 + (wanted - low) / (high - low)


def sigma_at(times: Tensor, table: Tensor) -> Tensor:
    """Sigmas (...) at float times, the inverse of `time_of`: linear in log sigma between the table's entries, and on beyond its ends."""
    left = times.detach().long().clamp(0, len(table) - 2)
    logs = table.log()
    return torch.lerp(logs[left], logs[left + 1], times - left).exp()
