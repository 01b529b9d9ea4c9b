"""The Pareto front, the probability of being on it, and its hypervolume, against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest

from bench.measures import Measure, measured
from bench.report.plots.pareto import Box, hypervolume, membership, pareto

BLOCKS = 20


def test_front_holds_equal_points() -> None:
    assert pareto([1, 2, 2, 3], [5, 3, 3, 4]) == [0, 1, 2]
    assert pareto([], []) == []


def sure(*values: float) -> list[Measure]:
    return [measured(v) for v in values]


def around(value: float, reach: float) -> Measure:
    return Measure(value=value, low=value - reach, high=value + reach)


def test_membership_of_the_front() -> None:
    assert membership(sure(1, 2), [around(1.0, 0.1), around(9.0, 0.1)]) == [1.0, 0.0]
    tied = membership(sure(1, 1), [around(1.0, 0.1), around(1.0, 0.1)])
    assert tied == pytest.approx([0.5, 0.5], abs=0.03) and sum(tied) == pytest.approx(1.0)
    assert membership([around(1.0, 0.2), around(2.0, 0.2)], sure(1, 1))[0] == 1.0
    with pytest.raises(ValueError, match="weights"):
        membership(sure(1), [Measure(reason="weights not found")])


def test_membership_follows_the_paired_difference() -> None:
    """P(second on the front) = P(its loss is the smaller) = Phi(-gap / error of the difference), paired or not."""
    rng = np.random.default_rng(9)
    common, own = (rng.standard_normal((2, BLOCKS)) for _ in range(2))
    without = [0.01 * (3 * common[0] + own[k]) for k in (0, 1)]
    gap, values = 0.06, [1.0, 1.06]
    error = math.sqrt((BLOCKS - 1) * (without[0] - without[1]).var())
    losses = [Measure(value=v, replicates=tuple(v + w)) for v, w in zip(values, without)]
    expected = 0.5 * math.erfc(gap / error / math.sqrt(2))
    assert 0.05 < expected < 0.45
    assert membership(sure(1, 2), losses)[1] == pytest.approx(expected, abs=0.03)
    alone = [math.sqrt((BLOCKS - 1) * w.var()) for w in without]
    independent = membership(sure(1, 2), [around(v, 1.96 * e) for v, e in zip(values, alone)])[1]
    assert independent == pytest.approx(0.5 * math.erfc(gap / math.hypot(*alone) / math.sqrt(2)), abs=0.03)
    assert independent > expected + 0.05  # noise that both share hides nothing
    twins = [losses[0], losses[0]]
    assert membership(sure(1, 1), twins) == [1.0, 1.0]


BOX = Box(best_cost=1.0, worst_cost=1000.0, worst_loss=10.0)


def union_area(points: list[tuple[float, float]]) -> float:
    """Area of the union of [x, 1] x [y, 1] by the grid that all coordinates span."""
    xs, ys = (sorted({min(max(p[k], 0.0), 1.0) for p in points} | {1.0}) for k in (0, 1))
    cells = itertools.product(itertools.pairwise(xs), itertools.pairwise(ys))
    return sum((x1 - x0) * (y1 - y0) for (x0, x1), (y0, y1) in cells if any(px <= x0 and py <= y0 for px, py in points))


def test_hypervolume_in_closed_form() -> None:
    assert hypervolume([1.0], [0.0], BOX) == pytest.approx(1.0, abs=1e-12)
    assert hypervolume([10.0], [5.0], BOX) == pytest.approx(2 / 3 * 1 / 2, abs=1e-12)
    assert hypervolume([10.0, 100.0], [5.0, 2.0], BOX) == pytest.approx(2 / 3 * 1 / 2 + 1 / 3 * 3 / 10, abs=1e-12)
    assert hypervolume([0.1], [-1.0], BOX) == pytest.approx(1.0, abs=1e-12)
    assert hypervolume([2000.0, 5.0], [1.0, 11.0], BOX) == hypervolume([], [], BOX) == 0.0
    with pytest.raises(ValueError, match="a box has"):
        Box(best_cost=0.0, worst_cost=1.0, worst_loss=1.0)


def test_hypervolume_is_the_area_of_the_union() -> None:
    rng = np.random.default_rng(10)
    for count in (1, 2, 5, 20):
        costs, losses = np.exp(rng.uniform(-1, 8, count)), rng.uniform(-1, 12, count)
        points = [(math.log10(c) / 3, loss / 10) for c, loss in zip(costs, losses)]
        assert hypervolume(costs.tolist(), losses.tolist(), BOX) == pytest.approx(union_area(points), abs=1e-12)
