"""How the command line prints: JSON, small tables, the leaderboard."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from bench.harness.forecast import Forecast
    from bench.report.compare import Comparison
    from bench.report.frame import Board

PIPE_WIDTH = 200


def as_json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    from rich.table import Table

    shown = Table(*head, title=title and title.replace("[", "\\["))
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell).replace("[", "\\[") for cell in row))
    _print(shown)


def comparisons(title: str, found: "Sequence[Comparison]") -> None:
    """One row a quantity, then how often each verdict fell; a row without an interval says why."""
    from bench.report.frame import number

    def text(value: float | None) -> str:
        return "-" if value is None else number(value)

    rows = []
    for c in found:
        d = c.found
        interval = d.reason or ("-" if d.p is None else f"{text(d.low)} to {text(d.high)}")
        relative = "-" if c.relative is None else f"{100 * c.relative:+.3g} %"
        rows.append(
            [c.key, text(d.ours), text(d.theirs), text(d.difference), interval, relative, text(c.p_adjusted), d.basis or "-", c.verdict]
        )
    table(["Quantity", "A", "B", "A - B", "95 % interval", "Relative", "p (Holm)", "From", "A is"], rows, title)
    tallies(found)


def tallies(found: "Sequence[Comparison]", where: str = "") -> None:
    """How often each verdict fell, a line for quality and one for cost."""
    from bench.report.compare import tally
    from bench.report.quantities import Kind

    for kind in Kind:
        print(f"{where}{kind}: " + ", ".join(f"{count} {verdict}" for verdict, count in tally(found, kind).items()))


def leaderboards(boards: "Mapping[str, Board]") -> None:
    """One table a task."""
    from bench.report.tables import terminal

    for task, board in boards.items():
        _print(terminal(board, f"Leaderboard: {task}"))


def forecast(expected: "Forecast") -> None:
    """What is to come, a line a quantity; nothing where nothing is to do."""
    if not expected.cells:
        return
    quantities = (
        ("time", expected.seconds, 1 / 60, "min"),
        ("GPU", expected.gpu_hours, 1.0, "GPU-hours"),
        ("energy", expected.kwh, 1.0, "kWh"),
        ("carbon", expected.co2_kg, 1.0, "kg CO2"),
        ("disk", expected.disk_bytes, 1e-6, "MB"),
    )
    print(f"{expected.cells} to do:")
    for name, measure, factor, unit in quantities:
        print(f"  {name}: {measure.reason}" if measure.value is None else f"  {name}: {measure.value * factor:.2g} {unit}")
    if expected.unknown:
        print(f"  not in these sums, as no record says anything of them: {', '.join(expected.unknown)}")


def kept_forecast(forecast_s: float | None, measured_s: float) -> None:
    if forecast_s:
        ratio = measured_s / forecast_s
        print(f"forecast {forecast_s / 60:.1f} min, measured {measured_s / 60:.1f} min ({ratio:.2f} times the forecast)")


def _print(shown: RenderableType) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(shown)
