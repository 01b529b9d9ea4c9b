"""Rules that choose a sampler's levels from the table of a network's chain: each has a name, and serves every table.

A grid is (S + 1,) float64 on the CPU: S descending levels, closed by 0. Times are integers 0..T-1 of a chain of T levels. ValueError for a
number of steps that the chain does not have.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Grid = Callable[[Tensor, int], Tensor]
"""(sigmas (T,) increasing, steps S) -> levels (S + 1,), at most S of them above 0."""


def leading_times(steps: int, total: int) -> Tensor:
    """Descending 0, d, 2d, ... with d = T // steps (arXiv 2010.02502, appendix D.2, 'uniform'); the highest level is left out."""
    _check(steps, total)
    return (torch.arange(steps) * (total // steps)).flip(0)


def trailing_times(steps: int, total: int) -> Tensor:
    """Descending i T / S - 1 for i = S..1: from pure noise, nested when S doubles (arXiv 2202.00512, algorithm 2)."""
    _check(steps, total)
    return (torch.arange(steps, 0, -1, dtype=torch.float64) * total / steps).round().long() - 1


def quadratic_times(steps: int, total: int) -> Tensor:
    """Descending linspace(0, sqrt(0.8 T), S)^2 (arXiv 2010.02502, appendix D.2), duplicates removed."""
    _check(steps, total)
    return torch.linspace(0, (0.8 * total) ** 0.5, steps, dtype=torch.float64).square().long().unique().flip(0)


def linspace_times(steps: int, total: int) -> Tensor:
    """Descending, equally spaced from T - 1 to 0, both included, rounded: what diffusers calls 'linspace'."""
    _check(steps, total)
    return torch.linspace(total - 1, 0, steps, dtype=torch.float64).round().long()


def leading(sigmas: Tensor, steps: int) -> Tensor:
    """The levels of `leading_times`."""
    return at(leading_times(steps, len(sigmas)), sigmas)


def trailing(sigmas: Tensor, steps: int) -> Tensor:
    """The levels of `trailing_times`."""
    return at(trailing_times(steps, len(sigmas)), sigmas)


def quadratic(sigmas: Tensor, steps: int) -> Tensor:
    """The levels of `quadratic_times`."""
    return at(quadratic_times(steps, len(sigmas)), sigmas)


def linspace(sigmas: Tensor, steps: int) -> Tensor:
    """The levels of `linspace_times`."""
    return at(linspace_times(steps, len(sigmas)), sigmas)


def karras(sigmas: Tensor, steps: int, rho: float = 7.0) -> Tensor:
    """`rho_levels` over the whole table."""
    low, high = span(sigmas)
    return rho_levels(steps, low, high, rho)


def log_snr(sigmas: Tensor, steps: int) -> Tensor:
    """Levels of equal ratio over the whole table: equal steps of the logarithm of the signal-to-noise ratio (arXiv 2206.00927)."""
    low, high = span(sigmas)
    return closed(torch.linspace(math.log(high), math.log(low), steps, dtype=torch.float64).exp())


def rho_levels(steps: int, low: float, high: float, rho: float) -> Tensor:
    """From `high` to `low`, equally spaced in sigma^(1 / rho) (Karras et al. 2022, arXiv 2206.00364, eq. 5)."""
    if not 2 <= steps <= 1000:
        raise ValueError(f"steps must lie in 2..1000, not {steps}")
    if not 0 < low < high < math.inf or not rho > 0:
        raise ValueError(f"sigma_min must lie inside 0..sigma_max, and rho must be positive, not {low}, {high} and {rho}")
    return closed(torch.linspace(high ** (1 / rho), low ** (1 / rho), steps, dtype=torch.float64).pow(rho))


def at(times: Tensor, sigmas: Tensor) -> Tensor:
    """The grid at descending times (S,) of the table (T,)."""
    return closed(sigmas.cpu()[times])


def closed(levels: Tensor) -> Tensor:
    """Descending levels (S,) with 0 at their end."""
    return torch.cat([levels, levels.new_zeros(1)])


def span(sigmas: Tensor) -> tuple[float, float]:
    """(lowest, highest) level of a table."""
    return float(sigmas[0]), float(sigmas[-1])


def some(steps: int) -> int:
    """The number itself; ValueError for one that no chain has. How many levels there are only the network's table says."""
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}")
    return steps


def _check(steps: int, total: int) -> None:
    if not 1 <= steps <= total:
        raise ValueError(f"steps must lie in 1..{total}, not {steps}")
