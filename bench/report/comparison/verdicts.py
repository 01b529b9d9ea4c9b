"""A against B from their records: what is compared with what, and a verdict on each quantity."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bench.measures import Measure
from bench.report.comparison.paired import Difference, apart, counted, difference, holm
from bench.report.comparison.quantities import Goal, Kind, Quantity, quantities
from bench.report.leaderboard.seeds import same_networks
from bench.values import Cell, Record, UserError

ALPHA = 0.05
Sides = list[tuple[Record, Record]]
"""(A's record, B's) for each common seed."""


class Verdict(StrEnum):
    """On A. A tie is a difference not told from zero; inconclusive is what could not be tested."""

    BETTER = "better"
    WORSE = "worse"
    TIE = "tie"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """Both sides' measures at one common seed, without their replicates."""

    seed: int
    ours: Measure
    theirs: Measure


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One quantity of A against B. `relative` is difference / |B|; `p_adjusted` is Holm's over all that was tested together.

    The interval in `found` is of this quantity alone: it may exclude zero where the adjusted p makes a tie.
    """

    key: str
    kind: Kind
    goal: Goal
    found: Difference
    relative: float | None
    p_adjusted: float | None
    verdict: Verdict
    per_seed: tuple[SeedValues, ...]


def compare(ours: Sequence[Record], theirs: Sequence[Record], margin: float = 0.0) -> list[Comparison]:
    """One configuration against another, over the seeds that both have; see `compare_all`."""
    return compare_all([(ours, theirs)], margin)[0]


def compare_all(pairs: Iterable[tuple[Sequence[Record], Sequence[Record]]], margin: float = 0.0) -> list[list[Comparison]]:
    """Every pair's comparisons, quality first; all tests of the call are one family for Holm's correction.

    `margin` is a fraction of B's value: a difference whose whole interval lies within it is a tie, however small its p.
    Raises UserError for a pair without a seed of the same workload, budget and reference on both sides.
    """
    matched = [by_seed(ours, theirs) for ours, theirs in pairs]
    contrasts = [[(q, sides, _contrast(q, sides)) for q in quantities(r for side in sides for r in side)] for sides in matched]
    adjusted = iter(holm([found.p for contrast in contrasts for _, _, found in contrast if found.p is not None]))
    return [
        [_judged(q, sides, found, None if found.p is None else next(adjusted), margin) for q, sides, found in contrast]
        for contrast in contrasts
    ]


def regressions(comparisons: Iterable[Comparison], kinds: Iterable[Kind]) -> list[Comparison]:
    """Where A is worse, among these kinds of quantity. Raises UserError where nothing of them could be judged: that is no pass."""
    wanted = tuple(kinds)
    gated = [c for c in comparisons if c.kind in wanted]
    if all(c.verdict is Verdict.INCONCLUSIVE for c in gated):
        raise UserError(f"nothing of {' and '.join(wanted)} could be judged: records need intervals, or several seeds")
    return [c for c in gated if c.verdict is Verdict.WORSE]


def tally(comparisons: Iterable[Comparison], kind: Kind) -> dict[Verdict, int]:
    """How often each verdict fell on this kind of quantity."""
    counts = Counter(c.verdict for c in comparisons if c.kind is kind)
    return {verdict: counts[verdict] for verdict in Verdict}


def by_seed(ours: Sequence[Record], theirs: Sequence[Record]) -> Sides:
    """Pairs of records whose images start from the same random numbers and meet the same reference, in the order of their seeds."""
    left, right = ({_draw(r.cell): r for r in side} for side in (ours, theirs))
    common = [key for key in left if key in right]
    if not common:
        names = " and ".join(sorted({r.cell.label for r in (*ours, *theirs)}))
        raise UserError(f"no common seed, budget and reference: {names}")
    return sorted(((left[key], right[key]) for key in common), key=lambda side: side[0].cell.seed)


def _draw(cell: Cell) -> tuple[object, ...]:
    return *cell.terms, cell.seed


def _contrast(quantity: Quantity, sides: Sides) -> Difference:
    """Over the seeds where both sides have the quantity."""
    both = [side for side in sides if all(quantity.get(r).value is not None for r in side)]
    ours, theirs = ([quantity.get(side[k]) for side in both or sides] for k in (0, 1))
    if not both:
        return apart(ours, theirs, next(str(m.reason) for m in (*ours, *theirs) if m.value is None))
    conditions = sorted({quantity.condition(r) for side in both for r in side})
    if len(conditions) > 1:
        return apart(ours, theirs, f"measured differently: {' | '.join(conditions)}")
    if quantity.counted:
        return counted(ours, theirs)
    models_stay = quantity.kind is Kind.QUALITY and all(same_networks([side[k] for side in sides]) for k in (0, 1))
    return difference(ours, theirs, same_models=models_stay)


def _judged(quantity: Quantity, sides: Sides, found: Difference, p_adjusted: float | None, margin: float) -> Comparison:
    return Comparison(
        key=quantity.key,
        kind=quantity.kind,
        goal=quantity.goal,
        found=found,
        relative=found.difference / abs(found.theirs) if found.difference is not None and found.theirs else None,
        p_adjusted=p_adjusted,
        verdict=_verdict(quantity.goal, found, p_adjusted, margin),
        per_seed=tuple(
            SeedValues(seed=a.cell.seed, ours=replace(quantity.get(a), replicates=None), theirs=replace(quantity.get(b), replicates=None))
            for a, b in sides
        ),
    )


def _verdict(goal: Goal, found: Difference, p_adjusted: float | None, margin: float) -> Verdict:
    if found.difference is None or found.low is None or found.high is None or found.theirs is None:
        return Verdict.INCONCLUSIVE
    if max(-found.low, found.high) <= margin * abs(found.theirs) or (p_adjusted is not None and p_adjusted >= ALPHA):
        return Verdict.TIE
    return Verdict.BETTER if (found.difference < 0) == (goal is Goal.LOWER) else Verdict.WORSE
