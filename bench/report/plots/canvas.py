"""What all pictures share: the sheet, its type and colours, one mark a strategy, and files of the same bytes for the same records."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Sheet
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.cards import Heading
from bench.report.leaderboard.board import number

WIDTH = 7.16  # inches, the text of two columns of print
LINE = 0.152  # inches, one line of a legend
SPAN = 6.3  # least ratio of an axis' ends: two of the ticks 1, 2 and 5 are always in it
COLUMNS = 4  # of a legend
CROWD = 1000  # dots and bars of a panel that are still drawn one by one
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # its yellow is too faint on white
MARKERS = "osD^vPX*<>hdp"
GREY = "#555555"
STYLE: Any = {  # to matplotlib's stubs every key is a type of its own
    "figure.dpi": 200,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "bench",
}
NAMES = {
    Heading.GUIDANCE: "EDS: guidance",
    Heading.STATE_SPACE: "EDS: state space",
    Heading.SCORE_SDE: "EDS: score and SDE",
    Heading.PYRAMIDAL: "EDS: pyramidal",
    Heading.REPRESENTATION: "EDS: representation",
    Heading.TRAINING: "EPS: training",
    Heading.NOISE: "EPS: noise",
    Heading.MIXING: "EPS: mixing",
    Heading.SCHEDULING: "EPS: scheduling",
    Heading.RETRIEVAL: "EPS: retrieval",
}
DESIGN, PROCESS = ([h for h in NAMES if h.startswith(half)] for half in ("eds.", "eps."))


@dataclass(frozen=True)
class Figure:
    """A picture on disk; `alt` says in words what it shows."""

    title: str
    alt: str
    png: Path
    svg: Path


@dataclass(frozen=True)
class Sketch:
    """A picture not yet on disk."""

    sheet: Sheet
    stem: str
    title: str
    alt: str


@dataclass(frozen=True)
class Mark:
    """How a strategy is drawn everywhere: the colour is its heading's, filled for design (EDS), hollow for process (EPS)."""

    title: str
    heading: Heading
    colour: str
    shape: str

    @property
    def face(self) -> str:
        return "white" if self.heading in PROCESS else self.colour


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's defaults with ours, whatever the user has set."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def sheet(height: float) -> Sheet:
    """A figure of the text's width, `height` in inches, apart from pyplot's global state."""
    made = Sheet(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def plain(text: str, longest: int = 40) -> str:
    """Text of a record as matplotlib shall print it: no mathematics, one line, not too long, never a label that it hides."""
    flat = " ".join(text.split())
    cut = flat if len(flat) <= longest else f"{flat[: longest - 1]}…"
    return (f" {cut}" if cut.startswith("_") else cut).replace("$", r"\$")


def marks(strategies: Mapping[str, tuple[str, Heading]]) -> dict[str, Mark]:
    """A mark for each strategy, from its title and heading, grouped by heading and sorted by title."""
    found = {}
    for heading in Heading:
        same = sorted((title, name) for name, (title, its) in strategies.items() if its is heading)
        half = PROCESS if heading in PROCESS else DESIGN
        colour = OKABE_ITO[half.index(heading)] if heading in half else OKABE_ITO[-1]
        for k, (title, name) in enumerate(same):
            found[name] = Mark(plain(title), heading, colour, MARKERS[k % len(MARKERS)])
    return found


def dots(axis: Axes, mark: Mark, points: Sequence[tuple[float, float, float]]) -> None:
    """Points (x, y, opacity); a hollow mark stays white inside, so that it hides no less than a filled one."""
    if not points:
        return
    shades = [to_rgba(mark.colour, opacity) for _, _, opacity in points]
    faces = shades if mark.face == mark.colour else [to_rgba("white")] * len(points)
    x, y = [p[0] for p in points], [p[1] for p in points]
    top = 3 + max(opacity for _, _, opacity in points)
    axis.scatter(x, y, s=22, marker=mark.shape, facecolors=faces, edgecolors=shades, linewidths=0.9, zorder=top)


def settle(figure: Sheet) -> None:
    """Lay the panels out for good, so that labels can be put where there is room, and that saving need not do it again."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)


def key(figure: Sheet, shown: Iterable[Mark]) -> None:
    """The legend below all panels: headings in bold, each above its strategies, by columns."""
    columns = _key_columns(shown)
    lines = [_key_line(entry) for column in columns for entry in column]
    legend = figure.legend(
        handles=lines, loc="outside lower center", ncols=COLUMNS, frameon=False, columnspacing=1.0, handletextpad=0.2, labelspacing=0.25
    )
    for text in legend.get_texts():
        if text.get_text() in NAMES.values():
            text.set_fontweight("bold")


def key_height(shown: Iterable[Mark]) -> float:
    """Inches that `key` takes."""
    return LINE * (len(_key_columns(shown)[0]) + 1)


def _key_line(entry: Mark | str) -> Line2D:
    if isinstance(entry, str):
        return Line2D([], [], linestyle="", label=entry)
    return Line2D([], [], color=entry.colour, marker=entry.shape, markerfacecolor=entry.face, linestyle="", markersize=5, label=entry.title)


def _key_columns(shown: Iterable[Mark]) -> list[list[Mark | str]]:
    """Columns of one length, as short as can be; no heading stands at the foot of one, and a heading that goes on is not repeated."""
    groups: dict[Heading, list[Mark]] = {}
    for mark in shown:
        groups.setdefault(mark.heading, []).append(mark)
    length = 1
    while True:
        columns: list[list[Mark | str]] = [[]]
        for heading, group in groups.items():
            entries: list[Mark | str] = [NAMES.get(heading, "Controls"), *group]
            for entry in entries:
                last = isinstance(entry, str) and len(columns[-1]) == length - 1
                if last or len(columns[-1]) == length:
                    columns.append([])
                columns[-1].append(entry)
        if len(columns) <= COLUMNS:
            return [[*column, *[" "] * (length - len(column))] for column in columns]
        length += 1


def logarithmic(axis: Axes, x: Iterable[float], y: Iterable[float]) -> None:
    """Both axes logarithmic with room around positive values, numbers written out, at 1, 2 and 5 where they span little."""
    for values, line, limits, scale in ((x, axis.xaxis, axis.set_xlim, axis.set_xscale), (y, axis.yaxis, axis.set_ylim, axis.set_yscale)):
        found = sorted(values)
        scale("log")
        if not found:
            continue
        span = found[-1] / found[0]
        room = max(span**0.07, 1.15, (SPAN / span) ** 0.5)
        limits(found[0] / room, found[-1] * room)
        steps = (1.0,) if span * room**2 > 100 else (1.0, 2.0, 5.0)
        line.set_major_locator(LogLocator(subs=steps))
        line.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        line.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, linewidth=0.5)


def save(made: Sketch, folder: Path) -> Figure:
    """PNG and SVG, without date or version in them; marks too many for vectors stand in the SVG as pixels."""
    for axis in made.sheet.axes:
        crowded = sum(max(len(drawn.get_paths()), np.size(drawn.get_offsets()) // 2) for drawn in axis.collections) > CROWD
        for drawn in axis.collections:
            drawn.set_rasterized(crowded)
    files = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None, "Title": made.title}}
    for suffix, metadata in files.items():
        buffer = io.BytesIO()
        made.sheet.savefig(buffer, format=suffix, dpi="figure", metadata=metadata)
        (folder / f"{made.stem}.{suffix}").write_bytes(buffer.getvalue())
    return Figure(made.title, made.alt, folder / f"{made.stem}.png", folder / f"{made.stem}.svg")
