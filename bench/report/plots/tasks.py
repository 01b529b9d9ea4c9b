"""Tasks other than generation: quality against network evaluations, a panel for each task."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from bench.report.plots.canvas import GREY, Mark, Sketch, dots, logarithmic, plain, settle, sheet
from bench.report.plots.cloud import Cloud
from bench.report.plots.front import bars
from bench.report.plots.labels import Label, place

PANEL = 1.9  # inches high
COLUMNS = 3


def quality_by_task(device: str, tasks: Mapping[str, Cloud], marks: Mapping[str, Mark]) -> Sketch | None:
    """The clouds of one device by the name of their task; None where none has a quality at some number of evaluations."""
    shown = {task: cloud for task, cloud in tasks.items() if cloud.having("nfe", cloud.quality)}
    if not shown:
        return None
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = sheet(rows * PANEL + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    taken = [_panel(axis, task, cloud, marks) for axis, (task, cloud) in zip(axes, shown.items())]
    for axis in axes[len(shown) :]:
        axis.axis("off")
    first = next(iter(shown.values()))
    figure.supxlabel(first.titles["nfe"], fontsize=8)
    figure.supylabel(f"{first.titles[first.quality]} (lower is better)", fontsize=8)
    figure.suptitle(f"{plain(device, 60)}; dotted: the best control", fontsize=8, x=0.01, ha="left")
    settle(figure)
    for axis, cloud, spans in zip(axes, shown.values(), taken):
        best = cloud.best("nfe", cloud.quality)
        labels = [Label(p.value("nfe"), p.value(cloud.quality), marks[p.strategy].title, marks[p.strategy].colour) for p in best]
        place(axis, labels, spans)
    alt = f"Quality, lower being better, against network evaluations an image on {device}, a panel each for {', '.join(shown)}."
    return Sketch(figure, f"quality_by_task{first.suffix}", f"Quality in other tasks on {device}", alt)


def _panel(axis: Axes, task: str, cloud: Cloud, marks: Mapping[str, Mark]) -> list[tuple[float, float]]:
    """Returns what labels should not cover."""
    points = cloud.having("nfe", cloud.quality)
    controls = [cloud.ceiling] if cloud.ceiling is not None else []
    losses = [end for p in (*points, *controls) for end in p.ends(cloud.quality)]
    logarithmic(axis, [p.value("nfe") for p in points], losses)
    for name in dict.fromkeys(p.strategy for p in points):
        dots(axis, marks[name], [(p.value("nfe"), p.value(cloud.quality), 1.0) for p in points if p.strategy == name])
    spans = bars(axis, points, "nfe", cloud.quality, [to_rgba(marks[p.strategy].colour, 0.8) for p in points])
    for control in controls:
        axis.axhline(control.value(cloud.quality), color=GREY, linestyle=":", linewidth=0.9)
    axis.set_title(plain(task), loc="left", fontweight="bold")
    return [*spans, *((p.value("nfe"), p.value(cloud.quality)) for p in points)]
