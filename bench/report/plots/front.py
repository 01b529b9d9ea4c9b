"""Quality against each cost with the Pareto front: intervals as bars, opacity as the probability of being on the front."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from bench.report.leaderboard.board import number
from bench.report.plots.canvas import GREY, Mark, Sketch, dots, key, key_height, logarithmic, plain, settle, sheet
from bench.report.plots.cloud import SAMPLING, Cloud, Point
from bench.report.plots.labels import Label, along, place
from bench.report.plots.pareto import DRAWS, Box, hypervolume, membership, pareto

COSTS = ("nfe", "gflop", "p50_ms", SAMPLING, "train_s")
PANEL = 2.35  # inches high
NUMBERS = 2_000_000  # drawn for a panel, which bounds its memory where points are many
FAINT = 0.2  # opacity of what is surely off the front


def fronts(cloud: Cloud, marks: Mapping[str, Mark]) -> Sketch | None:
    """A panel for each cost; None where no strategy has a quality."""
    shown = cloud.having(cloud.quality)
    if not shown:
        return None
    strategies = {p.strategy for p in shown}
    legend = [mark for name, mark in marks.items() if name in strategies]
    figure = sheet(3 * PANEL + key_height(legend))
    axes = figure.subplots(3, 2, sharey=True).flatten()
    panels = [(axis, cost, cloud.having(cloud.quality, cost)) for axis, cost in zip(axes, COSTS)]
    for axis, cost, points in panels:
        _panel(axis, cloud, cost, points, marks)
    for row in (0, 2, 4):
        axes[row].set_ylabel(f"{cloud.titles[cloud.quality]} (lower is better)")
    _explain(axes[-1], cloud)
    key(figure, legend)
    settle(figure)
    for axis, cost, points in panels:
        _name_front(axis, cloud, cost, points, marks)
    title = f"Quality against cost on {cloud.device}"
    return Sketch(figure, f"quality_against_cost{cloud.suffix}", title, _in_words(cloud, panels))


def _panel(axis: Axes, cloud: Cloud, cost: str, points: Sequence[Point], marks: Mapping[str, Mark]) -> None:
    axis.set_xlabel(cloud.titles[cost] + (f", {cloud.source}" if cost == SAMPLING else ""))
    x, y = [p.value(cost) for p in points], [p.value(cloud.quality) for p in points]
    logarithmic(axis, x, cloud.shown())
    if not points:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=GREY)
        return
    draws = max(200, min(DRAWS, NUMBERS // len(points)))
    chances = membership([p.measures[cost] for p in points], [p.measures[cloud.quality] for p in points], draws)
    opacities = [FAINT + (1 - FAINT) * chance for chance in chances]
    for name in dict.fromkeys(p.strategy for p in points):
        dots(axis, marks[name], [(x[k], y[k], opacities[k]) for k, p in enumerate(points) if p.strategy == name and cloud.inside(p)])
    shades = [to_rgba(marks[p.strategy].colour, 0.8 * opacity) for p, opacity in zip(points, opacities)]
    bars(axis, points, cost, cloud.quality, shades)
    front = stairs([(x[k], y[k]) for k in pareto(x, y)])
    axis.plot(*zip(*front), color="black", linestyle="--", linewidth=0.8, zorder=2, gid="front")
    axis.set_title(_weighed(x, y), loc="left", color=GREY)


def stairs(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the best loss to be had at each cost."""
    corners = [list(front[:1]), *([(right[0], left[1]), right] for left, right in pairwise(front))]
    return [corner for some in corners for corner in some]


def bars(axis: Axes, points: Sequence[Point], x: str, y: str, shades: Sequence[tuple[float, ...]]) -> list[tuple[float, float]]:
    """The 95 % intervals across and up; what reaches below zero reaches the edge of the axis. Returns points on those that go up."""
    for along_, across, draw in ((x, y, axis.hlines), (y, x, axis.vlines)):
        known = [(p.value(across), p.measures[along_], shade) for p, shade in zip(points, shades)]
        found = [(at, max(m.low, 1e-12), m.high, shade) for at, m, shade in known if m.low is not None and m.high is not None]
        if found:
            at, low, high, colours = zip(*found)
            draw(at, low, high, colors=colours, linewidth=0.8, zorder=2, gid="intervals")
    spans = [(p.value(x), p.ends(y)) for p in points]
    return [corner for at, ends in spans for corner in along([(at, min(ends)), (at, max(ends))])]


def _weighed(x: Sequence[float], y: Sequence[float]) -> str:
    """The front's hypervolume with its box: costs as far as they go, losses from zero to the median, which no failure can stretch."""
    if min(x) == max(x):
        return "no hypervolume: one cost alone"
    box = Box(best_cost=min(x), worst_cost=max(x), worst_loss=median(y))
    share = hypervolume(x, y, box)
    return f"hypervolume {share:.2f} of {number(box.best_cost)} to {number(box.worst_cost)} × 0 to {number(box.worst_loss)}"


def _explain(axis: Axes, cloud: Cloud) -> None:
    """The sixth panel: what the lines, bars and shades mean, and what the axes leave out."""
    dot: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 5, "linestyle": ""}
    lines = [
        Line2D([], [], **dot, label="surely on the front"),
        Line2D([], [], **dot, alpha=FAINT + (1 - FAINT) / 2, label="on it with probability 0.5"),
        Line2D([], [], **dot, alpha=FAINT, label="surely off the front"),
        Line2D([], [], color="black", linestyle="--", linewidth=0.8, label="Pareto front of the measured values"),
        Line2D([], [], color="black", marker="|", markersize=9, linestyle="", label="95 % interval"),
    ]
    notes = [f"{plain(c.title)}: {number(c.value(cloud.quality))}" for c in (cloud.ceiling,) if c is not None]
    if beyond := cloud.left_out():
        notes.append(beyond)
    lines += [Line2D([], [], linestyle="", label=note) for note in notes]
    axis.legend(handles=lines, loc="center left", frameon=False, title=plain(cloud.device, 60), alignment="left")
    axis.axis("off")


def _name_front(axis: Axes, cloud: Cloud, cost: str, points: Sequence[Point], marks: Mapping[str, Mark]) -> None:
    x, y = [p.value(cost) for p in points], [p.value(cloud.quality) for p in points]
    front = [k for k in pareto(x, y) if cloud.inside(points[k])]
    named = [Label(x[k], y[k], marks[points[k].strategy].title, marks[points[k].strategy].colour) for k in front]
    place(axis, named, [*zip(x, y), *along(stairs([(x[k], y[k]) for k in front]))])


def _in_words(cloud: Cloud, panels: Sequence[tuple[Axes, str, Sequence[Point]]]) -> str:
    quality = cloud.titles[cloud.quality]
    sentences = [f"{quality}, lower being better, against cost, one mark a configuration, on {cloud.device}."]
    for _, cost, points in panels:
        front = pareto([p.value(cost) for p in points], [p.value(cloud.quality) for p in points])
        names = ", ".join(points[k].configuration for k in front)
        sentences.append(f"On the front by {cloud.titles[cost]}: {names or 'none measured'}.")
    return " ".join(sentences)
