"""How the command line prints: JSON, small tables, the leaderboard."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from bench.harness.plan.forecast import Forecast
    from bench.report.comparison.verdicts import Comparison
    from bench.report.leaderboard.board import Leaderboard

PIPE_WIDTH = 200
FRAMED = 1000  # rows; laying out a longer table takes seconds, and nobody sees its frame


def as_json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    from rich.table import Table

    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if len(texts) > FRAMED:
        return _plain([list(head), *texts])
    shown = Table(*head, title=title and title.replace("[", "\\["))
    for cells in texts:
        shown.add_row(*(cell.replace("[", "\\[") for cell in cells))
    _print(shown)


def _plain(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns without a frame, at once however many rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows))


def comparisons(title: str, found: "Sequence[Comparison]") -> None:
    """One row a quantity, then how often each verdict fell; a row without an interval says why."""
    from bench.report.comparison.text import row

    rows = [row(c) for c in found]
    table(list(rows[0]), [list(r.values()) for r in rows], title)
    tallies(found)


def tallies(found: "Iterable[Comparison]", where: str = "") -> None:
    """How often each verdict fell, a line for quality and one for cost."""
    from bench.report.comparison.text import tallies as lines

    for line in lines(found):
        print(f"{where}{line}")


def leaderboards(boards: "Mapping[str, Leaderboard]") -> None:
    """One table a task."""
    from bench.report.leaderboard.terminal import terminal

    for task, board in boards.items():
        _print(terminal(board, f"Leaderboard: {task}"))


def forecast(expected: "Forecast") -> None:
    """What is to come, a line a quantity; nothing where nothing is to do."""
    if not expected.cells:
        return
    from bench.report.leaderboard.columns import number

    quantities = (
        ("time", expected.seconds, 1 / 60, "min"),
        ("GPU", expected.gpu_hours, 1.0, "GPU-hours"),
        ("energy", expected.kwh, 1.0, "kWh"),
        ("carbon", expected.co2_kg, 1.0, "kg CO2"),
        ("disk", expected.disk_bytes, 1e-6, "MB"),
    )
    print(f"{expected.cells} to do:")
    for name, measure, factor, unit in quantities:
        print(f"  {name}: {measure.reason}" if measure.value is None else f"  {name}: {number(measure.value * factor, 2)} {unit}")
    if expected.unknown:
        print(f"  not in these sums, as no record says anything of them: {', '.join(expected.unknown)}")
    if expected.uncompiled:
        print(f"  not in these sums: what compiling takes, as no record tells it of {len(expected.uncompiled)} of them")


def kept_forecast(forecast_s: float | None, measured_s: float) -> None:
    if forecast_s:
        ratio = measured_s / forecast_s
        print(f"forecast {forecast_s / 60:.1f} min, measured {measured_s / 60:.1f} min ({ratio:.2f} times the forecast)")


def _print(shown: RenderableType) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(shown)
