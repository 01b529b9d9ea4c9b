"""Training energy against sampling energy, with the numbers of images at which both are equal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bench.report.leaderboard.board import number
from bench.report.plots.canvas import GREY, Mark, Sketch, dots, key, key_height, logarithmic, plain, settle, sheet
from bench.report.plots.cloud import SAMPLING, TRAINING, Cloud, Point
from bench.report.plots.labels import Label, along, place

HEIGHT = 4.6  # inches, without the legend
FAINT = 0.25
NAMED = (0.02, 0.16)  # part of a diagonal along which its name runs


def training_against_sampling(cloud: Cloud, marks: Mapping[str, Mark]) -> Sketch | None:
    """Every configuration; named where it is its strategy's best, else faint. None where nothing has a quality and both energies."""
    needed = (cloud.quality, TRAINING, SAMPLING)
    points = cloud.having(*needed)
    if not points:
        return None
    best = cloud.best(*needed)
    strategies = {p.strategy for p in points}
    legend = [mark for name, mark in marks.items() if name in strategies]
    figure = sheet(HEIGHT + key_height(legend))
    axis = figure.subplots()
    at = {p.configuration: (1e3 * p.value(TRAINING), p.value(SAMPLING)) for p in points}
    logarithmic(axis, *zip(*at.values()))
    for name in sorted(strategies):
        mine = [(*at[p.configuration], 1.0 if p in best else FAINT) for p in points if p.strategy == name]
        dots(axis, marks[name], mine)
    axis.set_xlabel("Training energy, own and inherited (Wh)")
    axis.set_ylabel(f"Sampling energy (Wh/1000 images), {cloud.source}")
    axis.set_title(plain(cloud.device, 60), loc="left")
    key(figure, legend)
    settle(figure)
    taken = [*at.values(), *_equal(axis)]
    place(axis, [Label(*at[p.configuration], marks[p.strategy].title, marks[p.strategy].colour) for p in best], taken)
    title = f"Energy of training against energy of sampling on {cloud.device}"
    return Sketch(figure, f"training_against_sampling{cloud.suffix}", title, _in_words(cloud, best))


def images_to_equal(point: Point) -> float:
    """How many images cost as much energy as the training."""
    return 1000 * 1e3 * point.value(TRAINING) / point.value(SAMPLING)


def _equal(axis: Axes) -> list[tuple[float, float]]:
    """Diagonals: sampling = 1000 * training / images, for powers of ten of images; returns where their names stand."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    least, most = np.log10(1000 * left / high), np.log10(1000 * right / low)
    (x0, y0), (x1, y1) = axis.transData.transform([(left, left), (10 * left, 10 * left)])
    angle = float(np.degrees(np.arctan2(y1 - y0, x1 - x0)))
    style: dict[str, Any] = {"color": GREY, "linewidth": 0.7, "linestyle": ":", "scalex": False, "scaley": False, "gid": "equal"}
    names = []
    for power in range(int(np.ceil(least)), int(np.floor(most)) + 1):
        images = 10.0**power
        start, end = max(left, low * images / 1000), min(right, high * images / 1000)
        axis.plot([start, end], [1000 * start / images, 1000 * end / images], **style)
        first, last = (left * (right / left) ** part * start / left for part in NAMED)
        text = f"{number(images)} images"
        axis.text(first, 1000 * first / images, text, color=GREY, rotation=angle, rotation_mode="anchor", va="bottom", clip_on=True)
        names += along([(first, 1000 * first / images), (last, 1000 * last / images)])
    return names


def _in_words(cloud: Cloud, best: Sequence[Point]) -> str:
    said = "; ".join(f"{p.configuration} after {number(images_to_equal(p), 2)} images" for p in best)
    return f"Sampling energy against training energy on {cloud.device}, both logarithmic. Sampling has taken as much as training: {said}."
