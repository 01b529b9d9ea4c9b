"""Which records a person means: `eds.representation.ddim[steps=50]`, `ddim[steps=50]`, or `ddim` for all its configurations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.cards import Task
from bench.hints import near
from bench.records.names import nothing_agrees, nothing_in_common, pairs, wanted
from bench.report.leaderboard.board import latest
from bench.values import COMPUTE, Compute, Record, Status, UserError, configuration


@dataclass(frozen=True, kw_only=True)
class Match:
    """The finished records of two configurations, each on one device, over seeds."""

    ours: tuple[Record, ...]
    theirs: tuple[Record, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Of the two configurations."""
        return name_of(self.ours[0]), name_of(self.theirs[0])

    @property
    def title(self) -> str:
        """`A against B`, with the device, or both."""
        (a, b), (x, y) = self.names, (side[0].provenance.device for side in (self.ours, self.theirs))
        return f"{a} against {b} on {x}" if x == y else f"{a} on {x} against {b} on {y}"


def matches(records: Iterable[Record], ours: str, theirs: str) -> list[Match]:
    """Every pair of configurations that agree in the parameters which both sweep, device by device.

    A pair has one task. One configuration on each side of a task are a pair whatever their parameters. Raises UserError for a name that
    means no strategy, several, or one without a finished record, and where no two configurations agree.
    """
    newest = latest(records, apart=lambda r: (r.cell.terms, r.cell.code_hash))
    left, right = (_configurations(newest, side) for side in (ours, theirs))
    tasks = dict.fromkeys(a[0].cell.workload.task for a in left if any(_of_task(right, a[0].cell.workload.task)))
    if not tasks:
        raise nothing_in_common(ours, theirs)
    found = [pair for task in tasks for pair in pairs(_of_task(left, task), _of_task(right, task), lambda side: side[0].cell.shown)]
    if not found:
        raise nothing_agrees(ours, theirs, (name_of(side[0]) for side in (*left, *right)))
    return [match for a, b in found for match in _by_device(a, b)]


def name_of(record: Record) -> str:
    """The configuration, as people read it."""
    return configuration(record.cell.strategy, record.cell.shown, record.cell.workload.task)


def _configurations(records: Sequence[Record], text: str) -> list[list[Record]]:
    """The finished records that `NAME` or `NAME[key=value, ...]` means, grouped by configuration; `compute=fast` where one says so."""
    meant = wanted(text)
    strategy = meant.strategy({r.cell.strategy for r in records}, "among the records")
    every = [r for r in records if r.cell.strategy == strategy]
    asked = {COMPUTE: str(Compute.REFERENCE), **meant.chosen}[COMPUTE]
    found = [r for r in every if r.cell.compute == asked and meant.means({**r.cell.params, COMPUTE: asked})]
    if not found:
        raise UserError(f"no configuration '{text}' among the records{near(text, {name_of(r) for r in every})}")
    groups: dict[str, list[Record]] = {}
    for record in found:
        if record.status is Status.OK:
            groups.setdefault(name_of(record), []).append(record)
    if not groups:
        raise UserError(f"no finished record of '{text}': {found[0].status}: {found[0].reason}")
    return list(groups.values())


def _of_task(sides: Iterable[list[Record]], task: Task) -> list[list[Record]]:
    return [side for side in sides if side[0].cell.workload.task == task]


def _by_device(ours: list[Record], theirs: list[Record]) -> list[Match]:
    """A match for each device that both know; where they know none in common, one for each two devices."""
    left, right = (sorted({r.provenance.device for r in side}) for side in (ours, theirs))
    pairs = [(x, x) for x in left if x in right] or [(x, y) for x in left for y in right]
    return [
        _on_shared_terms(
            [r for r in ours if r.provenance.device == x],
            [r for r in theirs if r.provenance.device == y],
        )
        for x, y in pairs
    ]


def _on_shared_terms(ours: list[Record], theirs: list[Record]) -> Match:
    """Of either side, both oldest first, what was measured on the newest terms that both have, each by one code."""
    shared = {r.cell.terms for r in ours} & {r.cell.terms for r in theirs}
    by_age = sorted((r for r in (*ours, *theirs) if r.cell.terms in shared), key=lambda r: r.provenance.started)
    sides = [[r for r in side if not by_age or r.cell.terms == by_age[-1].cell.terms] for side in (ours, theirs)]
    return Match(ours=_of_newest_code(sides[0]), theirs=_of_newest_code(sides[1]))


def _of_newest_code(side: list[Record]) -> tuple[Record, ...]:
    return tuple(r for r in side if r.cell.code_hash == side[-1].cell.code_hash)
