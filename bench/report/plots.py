"""Pictures: quality against cost with the Pareto front. Colours of Okabe & Ito, legible to the colour-blind and in print."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from bench.harness.store import slug
from bench.report.frame import Board
from bench.report.pareto import pareto

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")  # its yellow is too faint on white
MARKERS = "osD^vPX*<>hdp"
AXES = ("nfe", "gflop", "p50_ms", "wh", "train_s")


def quality_against_cost(board: Board, folder: Path) -> list[Path]:
    """A figure per device with a panel per cost, as PNG and SVG: time and energy of two devices never share an axis."""
    devices = sorted(set(board.info["device"]))
    paths = []
    for device in devices:
        stem = "quality_against_cost" + (f"-{slug(device)}" if len(devices) > 1 else "")
        paths += _figure(board, board.values[board.info["device"] == device], folder, stem)
    return paths


def _figure(board: Board, rows: pd.DataFrame, folder: Path, stem: str) -> list[Path]:
    """Nothing where no row has a quality."""
    quality = board.columns[0]
    titles = {c.key: c.title for c in board.columns}
    shown = rows[rows[quality.key].notna() & (board.info.loc[rows.index, "heading"] != "control")]
    if shown.empty:
        return []
    figure, grid = plt.subplots(2, 3, figsize=(13, 8), sharey=True, layout="constrained")
    axes, names = grid.flatten(), board.info.loc[shown.index]
    styles = _styles(list(dict.fromkeys(sorted(names["title"]))))
    for axis, key in zip(axes, AXES):
        _panel(axis, shown, names, key, quality.key, styles)
        axis.set_xlabel(titles[key])
    for row in grid:
        row[0].set_ylabel(f"{quality.title} (lower is better)")
    _legend(axes[-1], styles)
    return _save(figure, folder, stem)


def _panel(axis: Axes, shown: pd.DataFrame, names: pd.DataFrame, cost: str, quality: str, styles: dict[str, tuple[str, str]]) -> None:
    points = shown[shown[cost].notna() & (shown[cost] > 0)]
    front = pareto(points[cost].tolist(), points[quality].tolist())
    on_front = set(points.index[front])
    for title, (colour, marker) in styles.items():
        rows = points[names.loc[points.index, "title"] == title].sort_values(cost)
        axis.plot(rows[cost], rows[quality], color=colour, alpha=0.35, linewidth=1)
        for chosen, alpha in ((rows[rows.index.isin(on_front)], 1.0), (rows, 0.4)):
            axis.scatter(chosen[cost], chosen[quality], color=colour, marker=marker, alpha=alpha, s=48, zorder=3)
    axis.plot(points[cost].iloc[front], points[quality].iloc[front], color="black", linestyle="--", linewidth=1)
    axis.set_xscale("log")
    if len(points) and points[cost].max() > 10 * points[cost].min():
        axis.xaxis.set_minor_formatter(NullFormatter())  # powers of ten are enough there; more would overlap
    axis.set_yscale("log")
    axis.grid(alpha=0.25, which="both")


def _legend(axis: Axes, styles: dict[str, tuple[str, str]]) -> None:
    """The sixth panel: what the marks mean."""
    marks = [Line2D([], [], color=c, marker=m, linestyle="", markersize=8, label=t) for t, (c, m) in styles.items()]
    front = Line2D([], [], color="black", linestyle="--", linewidth=1, label="Pareto front (the rest is faded)")
    axis.legend(handles=[*marks, front], loc="center", frameon=False)
    axis.axis("off")


def _styles(titles: list[str]) -> dict[str, tuple[str, str]]:
    return {t: (OKABE_ITO[k % len(OKABE_ITO)], MARKERS[k % len(MARKERS)]) for k, t in enumerate(titles)}


def _save(figure, folder: Path, stem: str) -> list[Path]:  # type: ignore[no-untyped-def]
    paths = []
    for suffix in ("png", "svg"):
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "bench"}):  # the same records, the same bytes
            figure.savefig(buffer, format=suffix, dpi=110, metadata={"Date": None} if suffix == "svg" else None)
        path = folder / f"{stem}.{suffix}"
        path.write_bytes(buffer.getvalue())
        paths.append(path)
    plt.close(figure)
    return paths
