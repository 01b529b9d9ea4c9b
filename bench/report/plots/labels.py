"""Names beside points, each where it covers the least."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

REACHES = (5.0, 11.0, 18.0, 27.0, 38.0)  # points from the mark to the text's nearest edge
WAYS = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
HALO = 1.5
MARK = 2.5  # half of a mark's width, points
LabelBox = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y) in data units."""

    x: float
    y: float
    text: str
    colour: str


def along(line: Sequence[tuple[float, float]], every: int = 12) -> list[tuple[float, float]]:
    """Points on a line, logarithmically between its corners: what a label should not cover."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(line):
        found += [(x0 * (x1 / x0) ** (k / every), y0 * (y1 / y0) ** (k / every)) for k in range(every + 1)]
    return found


def place(axis: Axes, labels: Iterable[Label], others: Sequence[tuple[float, float]]) -> None:
    """Write each label, from left to right, where it covers fewest of its forerunners and of all points `others`, and lies inside the axes.

    The layout must stand: the figure's engine has run and is off. A leader joins a text that lies further off.
    """
    canvas = axis.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    scale, renderer = axis.figure.dpi / 72, canvas.get_renderer()
    to_points = axis.transData.transform
    marks = np.array(to_points(others) if len(others) else np.zeros((0, 2))) / scale
    frame = axis.get_window_extent(renderer)
    edges = (frame.x0 / scale, frame.y0 / scale, frame.x1 / scale, frame.y1 / scale)
    taken: list[LabelBox] = []
    for label in sorted(labels, key=lambda it: (it.x, it.y)):
        note = axis.annotate(
            label.text,
            (label.x, label.y),
            (0, 0),
            textcoords="offset points",
            color=label.colour,
            ha="left",
            va="bottom",
            zorder=6,
            path_effects=[patheffects.withStroke(linewidth=HALO, foreground="white")],
        )
        extent = note.get_window_extent(renderer)
        size = (extent.width / scale, extent.height / scale)
        x, y = np.array(to_points((label.x, label.y))) / scale
        (dx, dy), box = _freest((float(x), float(y)), size, taken, marks, edges)
        taken.append(box)
        note.set_position((dx, dy))
        if hypot(max(dx, -dx - size[0], 0), max(dy, -dy - size[1], 0)) > REACHES[1]:
            axis.annotate(
                "",
                (label.x, label.y),
                (min(max(0.0, dx), dx + size[0]), min(max(0.0, dy), dy + size[1])),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": label.colour, "shrinkA": 0, "shrinkB": 2},
            )


def _freest(
    at: tuple[float, float], size: tuple[float, float], taken: Sequence[LabelBox], marks: NDArray[np.float64], edges: LabelBox
) -> tuple[tuple[float, float], LabelBox]:
    """The offset (dx, dy) of the text's lower left corner with the least cover, nearest first, and the box it takes."""
    best: tuple[float, tuple[float, float], LabelBox] | None = None
    for reach in REACHES:
        for across, up in WAYS:
            slant = reach / hypot(across, up) if across and up else reach
            dx = across * slant if across > 0 else across * slant - size[0] if across < 0 else -size[0] / 2
            dy = up * slant if up > 0 else up * slant - size[1] if up < 0 else -size[1] / 2
            box = (at[0] + dx, at[1] + dy, at[0] + dx + size[0], at[1] + dy + size[1])
            cost = 20 * sum(_overlap(box, other) > 0 for other in taken) + 30 * _outside(box, edges) + _hit(box, marks) + 0.02 * reach
            if best is None or cost < best[0]:
                best = cost, (dx, dy), box
    assert best is not None
    return best[1], best[2]


def _overlap(a: LabelBox, b: LabelBox) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _outside(box: LabelBox, edges: LabelBox) -> bool:
    return box[0] < edges[0] or box[1] < edges[1] or box[2] > edges[2] or box[3] > edges[3]


def _hit(box: LabelBox, marks: NDArray[np.float64]) -> int:
    """How many marks the box covers."""
    low, high = np.array(box[:2]) - MARK, np.array(box[2:]) + MARK
    return int(((marks > low) & (marks < high)).all(axis=1).sum())
