"""The survey's taxonomy at a glance: under each heading its rows, and which of them are implemented and measured."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from bench.cards import Heading
from bench.report.plots.canvas import DESIGN, PROCESS, Sketch, settle, sheet
from bench.survey import Row, RowStatus, rows, status

GROUPS = {  # the survey's group of rows, as its tables and text name it, and our heading
    "Guided": Heading.GUIDANCE,
    "Not-Guided": Heading.GUIDANCE,
    "Discrete": Heading.STATE_SPACE,
    "Continuous": Heading.STATE_SPACE,
    "Score Network": Heading.SCORE_SDE,
    "SDE": Heading.SCORE_SDE,
    "Score/SDE": Heading.SCORE_SDE,
    "Pyramidal": Heading.PYRAMIDAL,
    "Non-Pyramidal": Heading.PYRAMIDAL,
    "Latent": Heading.REPRESENTATION,
    "Pixel": Heading.REPRESENTATION,
    "Training": Heading.TRAINING,
    "Noise Distribution": Heading.NOISE,
    "Mixing": Heading.MIXING,
    "Scheduling": Heading.SCHEDULING,
    "Retrieval": Heading.RETRIEVAL,
}
NAMES = {
    Heading.GUIDANCE: "Guidance",
    Heading.STATE_SPACE: "Discrete and continuous",
    Heading.SCORE_SDE: "Score networks and SDEs",
    Heading.PYRAMIDAL: "Pyramidal and not",
    Heading.REPRESENTATION: "Latent and pixel",
    Heading.TRAINING: "Training",
    Heading.NOISE: "Noise distribution",
    Heading.MIXING: "Mixing",
    Heading.SCHEDULING: "Scheduling",
    Heading.RETRIEVAL: "Retrieval",
}
LOOKS = {  # fill, hatching, the sign before a name, and what it means
    RowStatus.MEASURED: ("#0072B2", "", "●", "measured here"),
    RowStatus.IMPLEMENTED: ("#9CCBE8", "////", "○", "implemented, not measured here"),
    RowStatus.MISSING: ("white", "", "×", "not implemented"),
}
LETTERS = 56  # of 8 points, in half of the sheet
LINES = 0.22  # height of a line of names, where a heading's bar is `BAR` high
BAR = 0.3


def heading_of(row: Row) -> Heading:
    """Where the survey has the row; for rows of its outlook, which has no headings, where their strategy lies."""
    return GROUPS.get(row.group) or Heading(row.strategies[0].rsplit(".", 1)[0])


def sorted_rows(measured: set[str]) -> dict[Heading, list[tuple[Row, RowStatus]]]:
    """Rows by heading with what has become of each, measured first; without Table III, whose rows are published figures."""
    found: dict[Heading, list[tuple[Row, RowStatus]]] = {heading: [] for heading in NAMES}
    order = list(LOOKS)
    for row in rows():
        if (state := status(row, measured)) in LOOKS:
            found[heading_of(row)].append((row, state))
    return {heading: sorted(same, key=lambda pair: order.index(pair[1])) for heading, same in found.items()}


def taxonomy(measured: set[str]) -> Sketch:
    """`measured` names the strategies with an OK record."""
    known = sorted_rows(measured)
    longest = max(len(same) for same in known.values())
    halves = ((DESIGN, "Efficient design strategies (EDS)"), (PROCESS, "Efficient process strategies (EPS)"))
    depth = max(sum(_height(known[h]) for h in half) for half, _ in halves)
    figure = sheet(0.72 * depth + 0.7)
    for axis, (half, title) in zip(figure.subplots(1, 2), halves):
        axis.set_title(title, loc="left", fontweight="bold")
        axis.set(xlim=(-0.05, longest + 0.05), ylim=(depth, 0))
        axis.axis("off")
        top = 0.0
        for heading in half:
            _heading(axis, top, NAMES[heading], known[heading])
            top += _height(known[heading])
    shown = [
        Patch(facecolor=fill, hatch=hatch, edgecolor="black", linewidth=0.5, label=f"{sign} {words}")
        for fill, hatch, sign, words in LOOKS.values()
    ]
    figure.legend(handles=shown, loc="outside lower center", ncols=3, frameon=False)
    settle(figure)
    words = "; ".join(f"{NAMES[h]}: {_counted(same)}" for h, same in known.items())
    return Sketch(
        figure,
        "taxonomy",
        "The survey's taxonomy",
        f"Rows of the survey by heading, without the figures of its Table III, which are no systems. {words}.",
    )


def _names(same: Sequence[tuple[Row, RowStatus]]) -> list[str]:
    """The rows' models in lines, each behind the sign of its state."""
    words = [f"{LOOKS[state][2]}\u00a0{row.model.split(' / ')[0]}".replace(" ", "\u00a0") for row, state in same]
    return textwrap.wrap("  ".join(words), LETTERS, break_on_hyphens=False, break_long_words=False) if words else []


def _height(same: Sequence[tuple[Row, RowStatus]]) -> float:
    return 2 * BAR + LINES * (len(_names(same)) + 1)


def _counted(same: Sequence[tuple[Row, RowStatus]]) -> str:
    measured = sum(state is RowStatus.MEASURED for _, state in same)
    implemented = measured + sum(state is RowStatus.IMPLEMENTED for _, state in same)
    return f"{len(same)} rows, {implemented} implemented, {measured} measured"


def _heading(axis: Axes, top: float, name: str, same: Sequence[tuple[Row, RowStatus]]) -> None:
    axis.text(0, top + BAR * 0.7, f"{name}: {_counted(same)}", va="bottom")
    for k, (_, state) in enumerate(same):
        fill, hatch, *_ = LOOKS[state]
        axis.barh(top + BAR * 1.5, 1, BAR, left=k, color=fill, hatch=hatch, edgecolor="black", linewidth=0.5)
    for k, line in enumerate(_names(same)):
        axis.text(0, top + 2.1 * BAR + LINES * k, line, va="top")
