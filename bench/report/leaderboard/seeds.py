"""What several seeds say together: the mean of a measure with its 95 % interval. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.intervals import student
from bench.measures import Measure
from bench.values import Record

ROUNDING = 1e-12  # relative to the mean: a spread below it is none


def over_seeds(measures: Sequence[Measure], *, same_models: bool) -> Measure:
    """Mean over the S seeds that have a value, or the first reason where none has. One seed's measure stays as it is.

    Within: the seeds' own intervals, half-width sqrt(sum of squared half-widths) / S, where every seed has one. It is all there is where
    the seeds drew new images from the `same_models`. Between: Student's t on S - 1 degrees of freedom, t * s / sqrt(S), which holds the
    variance of training and of sampling together. With training, the wider of the two stands, as in `bench.report.paired.difference`.
    Values that are the same for every seed, such as counts, have no interval.
    """
    known = [m for m in measures if m.value is not None]
    if not known or all(m is known[0] for m in known):  # one measure of the whole row is no sample of several
        return known[0] if known else measures[0]
    values = [m.value for m in known if m.value is not None]
    mean = math.fsum(values) / len(values)
    below, above = within(known) or (0.0, 0.0)
    if not (same_models and below + above > 0):
        spread = between(values, mean)
        below, above = max(below, spread), max(above, spread)
    low, high = (mean - below, mean + above) if max(below, above) > ROUNDING * abs(mean) else (None, None)
    counted = [m.n for m in known if m.n is not None]
    return Measure(value=mean, low=low, high=high, n=sum(counted) if counted else None, method=known[0].method)


def within(measures: Sequence[Measure]) -> tuple[float, float] | None:
    """How far the interval of a mean reaches below and above it by sampling alone; None as soon as one measure has no interval."""
    below = above = 0.0
    for m in measures:
        if m.value is None or m.low is None or m.high is None:
            return None
        below, above = below + (m.value - m.low) ** 2, above + (m.high - m.value) ** 2
    return math.sqrt(below) / len(measures), math.sqrt(above) / len(measures)


def between(values: Sequence[float], mean: float) -> float:
    """Half-width of the interval of the mean by Student's t; zero for a single value."""
    freedom = len(values) - 1
    if freedom == 0:
        return 0.0
    variance = math.fsum((v - mean) ** 2 for v in values) / freedom
    return student(freedom) * math.sqrt(variance / len(values)) if variance else 0.0


def within_bounds(measure: Measure, bounds: tuple[float, float]) -> Measure:
    """The interval cut to the values that the quantity can have: it covers the truth as often as before."""
    if measure.low is None or measure.high is None or (measure.low >= bounds[0] and measure.high <= bounds[1]):
        return measure
    return replace(measure, low=max(measure.low, bounds[0]), high=min(measure.high, bounds[1]))


def same_networks(records: Sequence[Record]) -> bool:
    """Whether every seed had the same networks: none trained by the strategy itself, the shared ones the same."""
    own = all(r.train is not None and r.train.images_seen.value == 0 for r in records)
    return own and all(r.cell.asset_ids == records[0].cell.asset_ids for r in records)
