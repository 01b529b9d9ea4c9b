"""Noise schedules as tables of sigma = sqrt((1 - abar) / abar), the noise-to-signal ratio, in float64.

Times are integers 0..T-1 in the convention of diffusers: time t carries the cumulative product over the first t + 1 betas.
"""

import torch
from torch import Tensor

T = 1000


def linear_alpha_bar(steps: int = T, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Cumulative products abar (T,) of the linear schedule of Ho et al. 2020 (arXiv 2006.11239, section 4)."""
    return torch.cumprod(1.0 - torch.linspace(first, last, steps, dtype=torch.float64), dim=0)


def sigma_of(alpha_bar: Tensor) -> Tensor:
    """sigma = sqrt((1 - abar) / abar)."""
    return ((1.0 - alpha_bar) / alpha_bar).sqrt()


def alpha_bar_of(sigma: Tensor) -> Tensor:
    """abar = 1 / (1 + sigma^2)."""
    return 1.0 / (1.0 + sigma.square())


def time_of(sigma: Tensor, table: Tensor) -> Tensor:
    """Float times (B,) at which the increasing table (T,) of sigmas reaches sigma (B,), linear in log sigma between its entries."""
    logs = table.log()
    wanted = sigma.to(logs.dtype).clamp(table[0], table[-1]).log()
    right = torch.searchsorted(logs, wanted).clamp(1, len(table) - 1)
    low, high = logs[right - 1], logs[right]
    return right - 1 + (wanted - low) / (high - low)


def sigma_at(times: Tensor, table: Tensor) -> Tensor:
    """Sigmas (...) at float times, the inverse of `time_of`: linear in log sigma between the table's entries, and on beyond its ends."""
    left = times.detach().long().clamp(0, len(table) - 2)
    logs = table.log()
    return torch.lerp(logs[left], logs[left + 1], times - left).exp()


def uniform_times(steps: int, total: int = T) -> Tensor:
    """Descending integer times 0, d, 2d, ... with d = T // steps: the 'leading' spacing of DDIM (arXiv 2010.02502, appendix D.2)."""
    _check(steps, total)
    return (torch.arange(steps) * (total // steps)).flip(0)


def trailing_times(steps: int, total: int = T) -> Tensor:
    """Descending integer times i T / S - 1 for i = S..1: from pure noise, nested when S doubles (arXiv 2202.00512, algorithm 2)."""
    _check(steps, total)
    return (torch.arange(steps, 0, -1, dtype=torch.float64) * total / steps).round().long() - 1


def quadratic_times(steps: int, total: int = T) -> Tensor:
    """Descending integer times linspace(0, sqrt(0.8 T), S)^2 (arXiv 2010.02502, appendix D.2), duplicates removed."""
    _check(steps, total)
    times = torch.linspace(0, (0.8 * total) ** 0.5, steps, dtype=torch.float64).square().long()
    return times.unique().flip(0)


def sigmas_at(times: Tensor, table: Tensor) -> Tensor:
    """The grid of a sampler: sigmas (S + 1,) at descending times (S,), closed by 0."""
    return torch.cat([table[times], table.new_zeros(1)])


def _check(steps: int, total: int) -> None:
    if not 1 <= steps <= total:
        raise ValueError(f"steps must lie in 1..{total}, not {steps}")
