"""Which records a person means: `eds.representation.ddim[steps=50]`, `ddim[steps=50]`, or `ddim` for all its configurations."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.hints import near
from bench.report.frame import latest
from bench.values import Record, Status, UserError, configuration


@dataclass(frozen=True, kw_only=True)
class Match:
    """The finished records of two configurations, each on one device, over seeds."""

    ours: tuple[Record, ...]
    theirs: tuple[Record, ...]

    @property
    def title(self) -> str:
        """`A against B`, with the device, or both."""
        (a, x), (b, y) = ((_name(side[0]), side[0].provenance.device) for side in (self.ours, self.theirs))
        return f"{a} against {b} on {x}" if x == y else f"{a} on {x} against {b} on {y}"


def matches(records: Iterable[Record], ours: str, theirs: str) -> list[Match]:
    """Every pair of configurations that agree in the parameters which both sweep, device by device.

    A pair has one task. One configuration on each side are a pair whatever their parameters. Raises UserError for a name that means no
    strategy, several, or one without a finished record, and where no two configurations agree.
    """
    newest = sorted(latest(records), key=lambda r: r.provenance.started)  # of two with one label the later stands
    left, right = (_configurations(newest, side) for side in (ours, theirs))
    alike = [(a, b) for a in left for b in right if a[0].cell.workload.task == b[0].cell.workload.task]
    if not alike:
        raise UserError(f"'{ours}' and '{theirs}' have no task in common, and images of two tasks are not compared")
    pairs = [(a, b) for a, b in alike if len(left) == len(right) == 1 or _agree(a[0], b[0])]
    if not pairs:
        known = ", ".join(_name(side[0]) for side in (*left, *right))
        raise UserError(f"no configuration of '{ours}' shares its swept parameters with one of '{theirs}'; name two of: {known}")
    return [match for a, b in pairs for match in _by_device(a, b)]


def _configurations(records: Sequence[Record], wanted: str) -> list[list[Record]]:
    """The finished records that `NAME` or `NAME[key=value, ...]` means, grouped by configuration."""
    parsed = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", wanted.strip())
    if parsed is None:
        raise UserError(f"'{wanted}' is no NAME and no NAME[parameter=value, ...]")
    strategy, chosen = _strategy(parsed[1], {r.cell.strategy for r in records}), _chosen(wanted, parsed[2])
    every = [r for r in records if r.cell.strategy == strategy]
    found = [r for r in every if all(key in r.cell.params and _reads(r.cell.params[key], text) for key, text in chosen.items())]
    if not found:
        raise UserError(f"no configuration '{wanted}' among the records{near(wanted, {_name(r) for r in every})}")
    groups: dict[str, list[Record]] = {}
    for record in found:
        if record.status is Status.OK:
            groups.setdefault(_name(record), []).append(record)
    if not groups:
        raise UserError(f"no finished record of '{wanted}': {found[0].status}: {found[0].reason}")
    return list(groups.values())


def _strategy(name: str, known: set[str]) -> str:
    """The strategy of this full name, or of this end of its name after a dot."""
    found = [k for k in sorted(known) if k == name] or [k for k in sorted(known) if k.endswith(f".{name}")]
    if len(found) > 1:
        raise UserError(f"'{name}' may be {' or '.join(found)}")
    if not found:
        raise UserError(f"no records of strategy '{name}'{near(name, known)}")
    return found[0]


def _chosen(wanted: str, inside: str | None) -> dict[str, str]:
    parts = [part.partition("=") for part in inside.split(",")] if inside else []
    if any(not sign for _, sign, _ in parts):
        raise UserError(f"'{wanted}': between brackets stand parameter=value, with commas between")
    return {key.strip(): value.strip() for key, _, value in parts}


def _reads(value: object, text: str) -> bool:
    """Whether a person who writes `text` means this value: numbers by value, all else as it is printed."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == text


def _agree(a: Record, b: Record) -> bool:
    """Equal in every parameter that both sweep; a configuration without any meets them all."""
    ours, theirs = a.cell.shown, b.cell.shown
    common = ours.keys() & theirs.keys()
    return all(ours[key] == theirs[key] for key in common) and bool(common or not ours or not theirs)


def _by_device(ours: list[Record], theirs: list[Record]) -> list[Match]:
    """A match for each device that both know; where they know none in common, one for each two devices."""
    left, right = (sorted({r.provenance.device for r in side}) for side in (ours, theirs))
    pairs = [(x, x) for x in left if x in right] or [(x, y) for x in left for y in right]
    return [
        Match(
            ours=tuple(r for r in ours if r.provenance.device == x),
            theirs=tuple(r for r in theirs if r.provenance.device == y),
        )
        for x, y in pairs
    ]


def _name(record: Record) -> str:
    return configuration(record.cell.strategy, record.cell.shown, record.cell.workload.task)
