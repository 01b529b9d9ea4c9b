"""A comparison as people read it, the same on the terminal and on the page."""

from collections.abc import Iterable

from bench.report.comparison.quantities import Kind
from bench.report.comparison.verdicts import Comparison, tally
from bench.report.leaderboard.columns import number


def row(c: Comparison) -> dict[str, str]:
    """One quantity by column; without an interval the reason stands in its place."""
    d = c.found
    return {
        "Quantity": c.key,
        "A": _text(d.ours),
        "B": _text(d.theirs),
        "A - B": _text(d.difference),
        "95 % interval": d.reason or ("-" if d.p is None else f"{_text(d.low)} to {_text(d.high)}"),
        "Relative": "-" if c.relative is None else f"{100 * c.relative:+.3g} %",
        "p (Holm)": _text(c.p_adjusted),
        "From": d.basis or "-",
        "A is": c.verdict,
    }


def tallies(found: Iterable[Comparison]) -> list[str]:
    """How often each verdict fell, a line for quality and one for cost."""
    every = list(found)
    return [f"{kind}: " + ", ".join(f"{count} {verdict}" for verdict, count in tally(every, kind).items()) for kind in Kind]


def _text(value: float | None) -> str:
    return "-" if value is None else number(value)
