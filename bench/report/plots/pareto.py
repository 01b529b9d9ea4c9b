"""The Pareto front of cost and loss, both lower is better: who is on it, how surely, and how much it dominates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from bench.intervals import student
from bench.measures import Measure

DRAWS = 4000  # a probability of one half within 0.016, twice its standard error


def pareto(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Indices of the points that no other point beats in one without losing in the other, by rising cost; equal points all stand."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda k: (costs[k], losses[k])):
        if not front or losses[i] < losses[front[-1]] or (costs[i], losses[i]) == (costs[front[-1]], losses[front[-1]]):
            front.append(i)
    return front


def membership(costs: Sequence[Measure], losses: Sequence[Measure], draws: int = DRAWS, seed: int = 0) -> list[float]:
    """Probability of each of K measured points to be on the front, from `draws` fronts of normally perturbed points.

    Measures with replicates of one number B are drawn together, x + sqrt((B - 1) / B) * sum_b z_b (x_b - mean x_b) with z standard normal:
    their covariance is the jackknife's, so that noise which strategies share moves none past another. Measures with an interval alone are
    drawn on their own; a measure with neither stays where it is. Raises ValueError for a measure without a value.
    """
    rng = np.random.default_rng(seed)
    x, y = _drawn(costs, draws, rng), _drawn(losses, draws, rng)
    return [float(share) for share in _fronts(x, y).mean(axis=0)] if len(costs) else []


def _fronts(costs: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Who is on the front, as `pareto` has it, in each of N sets of K points; all (N, K).

    By rising cost and loss, a point is on the front where it is the first with the least loss so far, or equals that first one.
    """
    order = np.lexsort((losses, costs))
    x, y = np.take_along_axis(costs, order, 1), np.take_along_axis(losses, order, 1)
    least = np.minimum.accumulate(y, axis=1)
    fresh = np.ones_like(y, dtype=bool)
    fresh[:, 1:] = y[:, 1:] < least[:, :-1]
    first = np.maximum.accumulate(np.where(fresh, np.arange(y.shape[1]), 0), axis=1)
    on_front = (y == least) & (x == np.take_along_axis(x, first, 1))
    found = np.empty_like(on_front)
    np.put_along_axis(found, order, on_front, 1)
    return found


def _drawn(measures: Sequence[Measure], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Perturbed values (draws, K)."""
    if empty := [m.reason for m in measures if m.value is None]:
        raise ValueError(f"a point of the front needs a value: {empty[0]}")
    values = np.array([m.value for m in measures], dtype=float)
    found = np.tile(values, (draws, 1))
    shared: dict[int, NDArray[np.float64]] = {}
    for k, measure in enumerate(measures):
        if measure.replicates:
            blocks = len(measure.replicates)
            if blocks not in shared:
                shared[blocks] = rng.standard_normal((draws, blocks))
            without = np.array(measure.replicates)
            found[:, k] += shared[blocks] @ (without - without.mean()) * math.sqrt((blocks - 1) / blocks)
        elif measure.low is not None and measure.high is not None:
            found[:, k] += rng.standard_normal(draws) * (measure.high - measure.low) / (2 * student(math.inf))
    return found


@dataclass(frozen=True, kw_only=True)
class Box:
    """The rectangle in which a front is weighed; print it beside the number. The reference point is (worst_cost, worst_loss).

    Costs are positive, in any unit; losses at best zero.
    """

    best_cost: float
    worst_cost: float
    worst_loss: float

    def __post_init__(self) -> None:
        if not (0 < self.best_cost < self.worst_cost and self.worst_loss > 0):
            raise ValueError(f"a box has 0 < best cost < worst cost and a positive worst loss, not {self}")


def hypervolume(costs: Sequence[float], losses: Sequence[float], box: Box) -> float:
    """Share in [0, 1] of the box that the points dominate, costs on a logarithmic axis (Zitzler & Thiele 1999; `moocore`).

    Points beyond the reference point add nothing; points better than the box's best corner count as on its edge.
    """
    if not len(costs):
        return 0.0
    width = math.log(box.worst_cost / box.best_cost)
    x = np.log(np.asarray(costs, dtype=float) / box.best_cost) / width
    y = np.asarray(losses, dtype=float) / box.worst_loss
    points = np.clip(np.column_stack([x, y]), 0.0, None)
    return float(moocore.hypervolume(points, ref=[1.0, 1.0]))
