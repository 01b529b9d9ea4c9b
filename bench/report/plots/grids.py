"""The same image seeds across strategies: real images first, then each strategy's best configuration, best first."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Sheet
from matplotlib.textpath import TextPath
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bench.records.store import Store
from bench.report.leaderboard.board import number
from bench.report.plots.canvas import GREY, WIDTH, Sketch, plain, sheet
from bench.report.plots.cloud import Cloud
from bench.values import Record, Status, configuration

COLUMNS = 10  # images in a row of a store's grids, with one pixel between
GAP = 1
ONE_BLOCK = 16  # rows from which on two blocks stand side by side
ROOM = 2  # pixels between strips
WIDEST = 4.0  # inches of a strip
MARGIN, HEAD = 0.06, 0.2  # inches: around all, above all
LETTERS = 26  # of a title
PIXELS = 64  # an image's side in the file, at least
Strip = NDArray[np.uint8]
"""A row of images (H, W, 3) on white."""


def sample_grids(cloud: Cloud, records: Iterable[Record], stores: Sequence[Store]) -> Sketch | None:
    """Columns are one start of the random numbers each. None where no strategy with a quality has kept its images."""
    best = {p.configuration: p for p in cloud.best(cloud.quality)}
    kept = [r for r in records if r.status is Status.OK and r.provenance.device == cloud.device and r.samples_png and _name(r) in best]
    if not kept:
        return None
    counts = Counter(r.cell.seed for r in kept)
    seed = min(counts, key=lambda s: (-counts[s], s))  # the one that most have
    by_name = {_name(r): r for r in kept if r.cell.seed == seed}
    height, width = kept[0].cell.workload.shape[1:]
    found: list[tuple[str, Strip]] = []
    real = next((s for store in stores if (s := strip(store.folder / "samples" / "real.png", height, width)) is not None), None)
    if real is not None:
        found.append(("Real images", real))
    for name, point in best.items():
        paths = [store.folder / str(by_name[name].samples_png) for store in stores] if name in by_name else []
        drawn = next((s for path in paths if (s := strip(path, height, width)) is not None), None)
        if drawn is not None:
            found.append((f"{plain(point.title, LETTERS)} {number(point.value(cloud.quality))}", drawn))
    if len(found) == (real is not None):
        return None
    title = f"The same image seeds across strategies on {cloud.device}"
    alt = f"Rows of ten images of seed {seed}, best quality first: {', '.join(name for name, _ in found)}."
    return Sketch(_drawn(found, f"Strategy, {cloud.titles[cloud.quality]}"), f"samples{cloud.suffix}", title, alt)


def strip(path: Path, height: int, width: int) -> Strip | None:
    """The first row of a grid, ten images; None where the file is missing, damaged, or of another size."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError):
        return None
    if pixels.shape[0] < height or pixels.shape[1] != COLUMNS * (width + GAP) - GAP:
        return None
    return pixels[:height]


def _name(record: Record) -> str:
    return configuration(record.cell.strategy, record.cell.shown)


def _drawn(found: Sequence[tuple[str, Strip]], head: str) -> Sheet:
    """Strips under each other, captions to their left, in one block or two."""
    blocks = 1 if len(found) <= ONE_BLOCK else 2
    deep = -(-len(found) // blocks)
    caption = max(TextPath((0, 0), name, size=8).get_extents().width for name in (head, *dict(found))) / 72 + 0.1
    across = min(WIDTH / blocks - caption - MARGIN, WIDEST)  # inches of one strip
    high, wide, _ = found[0][1].shape
    tall = deep * (high + ROOM) - ROOM  # pixels
    height = tall * across / wide
    figure = sheet(height + 2 * MARGIN + HEAD)
    figure.set_layout_engine(None)
    whole = height + 2 * MARGIN + HEAD
    for k in range(blocks):
        left = (k + 0.5) * WIDTH / blocks + (caption - across - MARGIN) / 2
        axis = figure.add_axes((left / WIDTH, MARGIN / whole, across / WIDTH, height / whole))
        picture = np.full((tall, wide, 3), 255, dtype=np.uint8)
        for row, (name, pixels) in enumerate(found[k * deep : (k + 1) * deep]):
            top = row * (high + ROOM)
            picture[top : top + high] = pixels
            axis.text(-0.015 * wide, top + high / 2, name, ha="right", va="center")
        corner = (-0.015 * wide, 0)
        axis.annotate(head, corner, (0, 3), textcoords="offset points", annotation_clip=False, ha="right", va="bottom", color=GREY)
        times = max(1, -(-PIXELS // high))  # repeated pixels stay sharp wherever the file is shown
        axis.imshow(np.kron(picture, np.ones((times, times, 1), dtype=np.uint8)), extent=(0, wide, tall, 0), aspect="auto")
        axis.axis("off")
    return figure
