"""Quality against steps: a panel for each heading, its strategies as lines, all others behind them in grey."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from bench.report.plots.canvas import MARKERS, NAMES, OKABE_ITO, Mark, Sketch, logarithmic, plain, settle, sheet
from bench.report.plots.cloud import Cloud, Point
from bench.report.plots.front import bars
from bench.report.plots.labels import Label, along, place

PANEL = 1.7  # inches high
GAP = (math.nan, math.nan)  # between lines that are drawn as one
Line = list[tuple[float, float]]
"""(steps, quality) by rising steps."""


def quality_against_steps(cloud: Cloud, marks: Mapping[str, Mark]) -> Sketch | None:
    """None where no strategy has steps and a quality."""
    points = [p for p in cloud.having("steps", cloud.quality) if cloud.inside(p)]
    headings = [h for h in NAMES if any(p.heading is h for p in points)]
    if not headings:
        return None
    lines = {p.strategy: (p, best_line(cloud, points, p.strategy)) for p in cloud.best("steps", cloud.quality) if cloud.inside(p)}
    rows = -(-len(headings) // 2)
    figure = sheet(rows * PANEL + 0.4)
    axes = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).flatten()
    for axis, heading in zip(axes, headings):
        logarithmic(axis, [p.value("steps") for p in points], cloud.shown())
        axis.set_title(NAMES[heading], loc="left", fontweight="bold")
        others = [corner for p, line in lines.values() if p.heading is not heading for corner in (*line, GAP)]
        if others:
            axis.plot(*zip(*others), color="#DDDDDD", linewidth=0.8, marker=".", markersize=2, zorder=1)
    for axis in axes[len(headings) :]:
        axis.axis("off")
    for axis in axes[max(0, len(headings) - 2) : len(headings)]:
        axis.tick_params(labelbottom=True)
    quality = cloud.titles[cloud.quality]
    figure.supxlabel("Steps", fontsize=8)
    figure.supylabel(f"{quality} (lower is better)", fontsize=8)
    figure.suptitle("; ".join(filter(None, (plain(cloud.device, 60), cloud.left_out()))), fontsize=8, x=0.01, ha="left")
    settle(figure)
    for axis, heading in zip(axes, headings):
        _strategies(axis, cloud, [p for p in points if p.heading is heading], marks)
    names = ", ".join(sorted({p.title for p in points}))
    alt = f"{quality}, lower being better, against sampling steps on {cloud.device}, both logarithmic, a line each for {names}."
    return Sketch(figure, f"quality_against_steps{cloud.suffix}", f"Quality against steps on {cloud.device}", alt)


def best_line(cloud: Cloud, points: Sequence[Point], strategy: str) -> Line:
    """The strategy's best configuration at each number of steps."""
    best: dict[float, float] = {}
    for point in points:
        if point.strategy == strategy:
            steps, loss = point.value("steps"), point.value(cloud.quality)
            best[steps] = min(loss, best.get(steps, loss))
    return sorted(best.items())


def _strategies(axis: Axes, cloud: Cloud, points: Sequence[Point], marks: Mapping[str, Mark]) -> None:
    """Lines through the best at each number of steps; the other configurations as faint marks."""
    labels, taken = [], []
    for k, name in enumerate(sorted({p.strategy for p in points}, key=lambda s: marks[s].title)):
        colour, shape = OKABE_ITO[k % len(OKABE_ITO)], MARKERS[k % len(MARKERS)]
        same, line = [p for p in points if p.strategy == name], best_line(cloud, points, name)
        axis.plot(*zip(*line), color=colour, marker=shape, markersize=4, linewidth=1.2, zorder=3, gid=name)
        every = [(p.value("steps"), p.value(cloud.quality)) for p in same]
        axis.plot(*zip(*every), color=colour, marker=shape, markersize=3, alpha=0.5, linestyle="", zorder=2)
        taken += bars(axis, same, "steps", cloud.quality, [to_rgba(colour, 0.6)] * len(same))
        labels.append(Label(*line[-1], marks[name].title, colour))
        taken += [*every, *along(line)]
    place(axis, labels, taken)
