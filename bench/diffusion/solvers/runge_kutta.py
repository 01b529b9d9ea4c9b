"""Explicit Runge-Kutta methods as tables of coefficients, with one driver, for dx/dt = slope(x, t) on a given grid of t."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Slope = Callable[[Tensor, float], Tensor]
"""(x (B, ...), t) -> dx/dt (B, ...)."""


@dataclass(frozen=True)
class Tableau:
    """A Butcher tableau: stage i is evaluated at t + nodes[i] h, x + h sum_j stages[i][j] k_j; the step adds h sum_i weights[i] k_i."""

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    @property
    def nodes(self) -> tuple[float, ...]:
        return tuple(sum(row) for row in self.stages)


EULER = Tableau(stages=((),), weights=(1.0,))
HEUN = Tableau(stages=((), (1.0,)), weights=(0.5, 0.5))  # of second order, its second stage at the step's end
MIDPOINT = Tableau(stages=((), (0.5,)), weights=(0.0, 1.0))
RALSTON_3 = Tableau(stages=((), (1 / 2,), (0.0, 3 / 4)), weights=(2 / 9, 1 / 3, 4 / 9))  # Ralston 1962, the least error of third order
CLASSIC_4 = Tableau(stages=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6))  # Kutta 1901


def step(slope: Slope, x: Tensor, start: float, end: float, method: Tableau) -> Tensor:
    """x at `end`, from x at `start`; as many slopes as the method has stages."""
    h, slopes = end - start, list[Tensor]()
    for row, node in zip(method.stages, method.nodes, strict=True):
        t = end if node == 1.0 else start + node * h  # the end itself, not a rounding of it
        slopes.append(slope(x + h * combined(slopes, row) if any(row) else x, t))
    return x + h * combined(slopes, method.weights)


def combined(slopes: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """The sum of the slopes with these weights, some of which is not 0."""
    terms = [slope if weight == 1.0 else weight * slope for slope, weight in zip(slopes, weights) if weight]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
