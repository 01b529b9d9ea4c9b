"""The statistics of a comparison: differences of measures with intervals and p-values, and Holm's correction. Pure functions.

Image k of every record of one cell seed starts from the same random numbers, and the k-th jackknife block is the same block of images.
So the difference d of two statistics has its own replicates d_b = a_b - b_b, and noise that both share cancels in
var d = (B - 1) / B * sum (d_b - mean d_b)^2 (Tukey 1958), tested with Student's t on B - 1 degrees of freedom.
Where both samplers draw from the reference itself, a distance is no longer linear in the blocks: the variance comes out about twice too
large, and the test errs towards the tie.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scipy.special import stdtr

from bench.intervals import jackknife_error, student
from bench.measures import Measure

ROUNDING = 1e-12  # relative to the values: a spread below it is none


class Basis(StrEnum):
    """What the interval of a difference is made of."""

    COUNTED = "counted"
    IDENTICAL = "identical"
    PAIRED = "paired blocks"
    INDEPENDENT = "two intervals"
    SEEDS = "spread over seeds"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A standard error with its degrees of freedom."""

    error: float
    freedom: float
    basis: Basis


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Means over seeds and their difference A - B, with a 95 % interval and a two-sided p, or the reason why there is none.

    A counted difference, and that of values which are identical in every seed and block, has no p: there is nothing to test.
    """

    ours: float | None = None
    theirs: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    seeds: int = 0
    basis: Basis | None = None
    reason: str | None = None


def difference(ours: Sequence[Measure], theirs: Sequence[Measure], *, same_models: bool) -> Difference:
    """Of measured values, one pair for each of S seeds.

    Within: the images' sampling error sqrt(sum of the seeds' variances) / S, degrees of freedom by Welch and Satterthwaite. It is all
    there is where the seeds drew new images from the `same_models`; with one seed it speaks of the two trained models at hand.

    Between: Student's t on the S differences, S - 1 degrees of freedom. It holds the variance of training and of sampling together, so
    that the sum of both would count sampling twice, and its level is right by itself. With training, the wider of the two intervals
    and the larger of their p-values stand: asking that both reject keeps the level (Berger 1982), and guards against S differences
    that agree by chance. Two seeds leave one degree of freedom and hardly any power (t = 12.7); three or more are wanted (4.3).
    """
    levels, gaps = _levels(ours, theirs), [_value(a) - _value(b) for a, b in zip(ours, theirs, strict=True)]
    mean, least = statistics.fmean(gaps), ROUNDING * max(abs(_value(m)) for m in (*ours, *theirs))
    within = _within(ours, theirs)
    between = None if same_models and within else _between(gaps)
    spreads = [s for s in (within, between) if s is not None]
    if not spreads:
        return replace(levels, reason="no interval: one seed, and a value without error")
    telling = [s for s in spreads if s.error > least]
    if not telling and abs(mean) <= least:
        return replace(levels, low=mean, high=mean, basis=Basis.IDENTICAL)
    if not telling:
        return replace(levels, reason="no spread under the difference")  # chance, or too coarse a scale: proves nothing
    reach, basis = max((student(s.freedom) * s.error, s.basis) for s in telling)
    p = max(2 * float(stdtr(s.freedom, -abs(mean) / s.error)) for s in telling)
    return replace(levels, low=mean - reach, high=mean + reach, p=p, basis=basis)


def counted(ours: Sequence[Measure], theirs: Sequence[Measure]) -> Difference:
    """Of counts, which have no error: the difference, as long as it has one sign on every seed."""
    levels, gaps = _levels(ours, theirs), [_value(a) - _value(b) for a, b in zip(ours, theirs, strict=True)]
    if min(gaps) < 0 < max(gaps):
        return replace(levels, reason="the sign changes from seed to seed")
    return replace(levels, low=levels.difference, high=levels.difference, basis=Basis.COUNTED)


def apart(ours: Iterable[Measure], theirs: Iterable[Measure], reason: str) -> Difference:
    """What is known of either side where the two cannot be compared."""
    return Difference(ours=_mean(ours), theirs=_mean(theirs), reason=reason)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: of the i-th smallest of m, max over j <= i of min(1, (m - j + 1) p_j) (Holm 1979)."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = highest
    return adjusted


def _levels(ours: Sequence[Measure], theirs: Sequence[Measure]) -> Difference:
    a, b = (statistics.fmean(map(_value, side)) for side in (ours, theirs))
    return Difference(ours=a, theirs=b, difference=a - b, seeds=len(ours))


def _mean(measures: Iterable[Measure]) -> float | None:
    values = [m.value for m in measures if m.value is not None]
    return statistics.fmean(values) if values else None


def _within(ours: Sequence[Measure], theirs: Sequence[Measure]) -> Spread | None:
    """Of the mean over seeds, from every seed's own error; None as soon as one seed has none."""
    found = [s for s in map(_spread, ours, theirs) if s is not None]
    if len(found) < len(ours):
        return None
    total = sum(s.error**2 for s in found)
    loss = sum(s.error**4 / s.freedom for s in found)
    basis = Basis.PAIRED if all(s.basis is Basis.PAIRED for s in found) else Basis.INDEPENDENT
    return Spread(error=math.sqrt(total) / len(found), freedom=total**2 / loss if loss else math.inf, basis=basis)


def _spread(a: Measure, b: Measure) -> Spread | None:
    """Of one seed's difference: paired where both have the same blocks, else as of independent values, which is wider."""
    if a.replicates and b.replicates and len(a.replicates) == len(b.replicates):
        gaps = [x - y for x, y in zip(a.replicates, b.replicates)]
        return Spread(error=jackknife_error(gaps), freedom=len(gaps) - 1, basis=Basis.PAIRED)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    error = math.hypot(a.high - a.low, b.high - b.low) / (2 * student(math.inf))
    return Spread(error=error, freedom=math.inf, basis=Basis.INDEPENDENT)


def _between(gaps: Sequence[float]) -> Spread | None:
    if len(gaps) < 2:
        return None
    return Spread(error=statistics.stdev(gaps) / math.sqrt(len(gaps)), freedom=len(gaps) - 1, basis=Basis.SEEDS)


def _value(measure: Measure) -> float:
    assert measure.value is not None
    return measure.value
