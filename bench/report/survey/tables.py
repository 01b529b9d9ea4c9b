"""The survey's tables again, row by row: what it says, what is wrong with that, what the cited paper has, and what was measured here."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.cards import Generate, task_name
from bench.report.leaderboard.board import Leaderboard
from bench.report.leaderboard.columns import is_limit, number
from bench.report.survey.claims import Audit, audit
from bench.survey import Row, RowStatus, implemented, rows, status
from bench.survey.errata import errata
from bench.survey.published import figures
from bench.survey.table_three import Printed, printed
from bench.values import Record, Status

TITLES = {
    "I": "Table I of the survey: efficient design strategies (EDS)",
    "II": "Table II of the survey: efficient process strategies (EPS)",
    "top": "Table III of the survey, top block (captioned ImageNet there)",
    "bottom": "Table III of the survey, bottom block (captioned COCO there)",
}
TEXT, NO_FIGURE, NOT_MEASURED = "text", "unverified: no figure found", "not in this suite"


@dataclass(frozen=True)
class SurveyTable:
    """A frame of text alone; `[1]` in a cell refers to the first of `notes`."""

    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SurveyQuantity:
    """A column of Table III: the field of `Printed`, the metric of published figures, the key of our texts; `ours` says what ours is."""

    title: str
    field: str
    metric: str
    key: str
    ours: str = ""


TOP = (
    SurveyQuantity("FID", "fid", "fid", "fid"),
    SurveyQuantity("Steps", "steps", "steps", "steps"),
    SurveyQuantity("Parameters (M)", "parameters", "params_million", "params"),
)
BOTTOM = (
    SurveyQuantity("FLOP (G)", "flop", "gflop_as_printed", "gflop", " over the whole trajectory"),
    SurveyQuantity("Parameters (M)", "parameters", "params_million", "params"),
    SurveyQuantity("Inference time", "inference_time", "inference_time_as_printed", "seconds", " in s, one image, median"),
)
Best = dict[str, str]
"""Texts of one configuration by key of `Quantity`, with `fd`, `device` and `label`."""


def survey_tables(records: list[Record], boards: dict[str, Leaderboard]) -> tuple[SurveyTable, ...]:
    """Table I, Table II, Table III top block, Table III bottom block; every row of the survey once, in its order.

    Systems that only the running text names stand at the end of the table whose half of the taxonomy they belong to. Table III is measured
    on the task of generation, by the best configuration of each strategy on each device.
    """
    audits: dict[str, list[Audit]] = defaultdict(list)
    for found in audit(records):
        audits[found.strategy].append(found)
    recorded = {r.cell.strategy for r in records}
    finished = {r.cell.strategy for r in records if r.status is Status.OK}
    halves = [_systems(TITLES[half], [row for row in rows() if _half(row) == half], audits, recorded, finished) for half in ("I", "II")]
    board = boards.get(task_name(Generate()))
    top, bottom = ([row for row in printed() if row.top is block] for block in (True, False))
    return (*halves, _block(TITLES["top"], top, TOP, board), _block(TITLES["bottom"], bottom, BOTTOM, board))


def _half(row: Row) -> str:
    """The table that a row stands in; of the running text, the one of its strategies' half of the taxonomy."""
    if row.table != TEXT:
        return row.table
    return "I" if row.strategies[0].startswith("eds.") else "II"


class SurveyNotes:
    """Numbers the errata of one table; one text has one number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def cell(self, row: str) -> str:
        """`[1] [2]`, or `-` for a row without a known error."""
        found = [erratum.text for erratum in errata() if erratum.row == row]
        self.texts += [text for text in found if text not in self.texts]
        return " ".join(f"[{self.texts.index(text) + 1}]" for text in found) or "-"


def _systems(title: str, wanted: Sequence[Row], audits: dict[str, list[Audit]], recorded: set[str], finished: set[str]) -> SurveyTable:
    """Table I or II."""
    notes = SurveyNotes()
    frame = pd.DataFrame(
        {
            "Row": [row.id for row in wanted],
            "Category": [f"{row.group} (running text)" if row.table == TEXT else row.group for row in wanted],
            "System": [row.model for row in wanted],
            "Reference": [_reference(row) for row in wanted],
            "What the survey says": [row.phrase for row in wanted],
            "Strategies here": [", ".join(row.strategies) for row in wanted],
            "State": [_state(row, finished) for row in wanted],
            "Claims and verdicts": ["; ".join(t for name in row.strategies for t in _claims(name, audits, recorded)) for row in wanted],
            "Errata": [notes.cell(row.id) for row in wanted],
        }
    )
    return SurveyTable(title, frame, tuple(notes.texts))


def _reference(row: Row) -> str:
    """`Title, arXiv 2105.05233`; where a row cites several papers, one after another."""
    papers = zip(row.paper.split(";"), row.arxiv.split(";"), strict=True)
    return "; ".join(f"{title.strip()}, arXiv {number}" for title, number in papers)


def _state(row: Row, finished: set[str]) -> str:
    """A row is as far as the least of its strategies; those that are further are named."""
    here = [name for name in row.strategies if name in finished]
    match status(row, finished):
        case RowStatus.MEASURED:
            return "measured here"
        case RowStatus.MISSING:
            return "missing: " + ", ".join(name for name in row.strategies if not implemented(name))
        case found:
            return f"{found}; measured here: {', '.join(here)}" if here else str(found)


def _claims(name: str, audits: dict[str, list[Audit]], recorded: set[str]) -> list[str]:
    """Each claim of a strategy with its verdict, or why there is none."""
    if name not in recorded:
        return [f"{name}: {'no record' if implemented(name) else 'not implemented'}"]
    marks = {True: "", False: " (its figure unverified)"}
    return [f"{a.claim.text}{marks[a.claim.verified]}: {a.verdict} ({a.why})" for a in audits.get(name, [])] or [
        f"{name}: no claim on its card"
    ]


def _block(title: str, wanted: Sequence[Printed], quantities: Iterable[SurveyQuantity], board: Leaderboard | None) -> SurveyTable:
    """A block of Table III: of every quantity the survey's print, the cited paper's figure, ours; then what ours was made with."""
    notes = SurveyNotes()
    models = {row.id: row.model for row in rows()}
    text = board.text() if board is not None else pd.DataFrame()
    ours = [_ours(row, board, text) for row in wanted]
    columns = {"Row": [row.row for row in wanted], "Model": [models[row.row] for row in wanted]}
    if any(row.year for row in wanted):
        columns["Year: printed in the survey"] = [row.year for row in wanted]
    for q in quantities:
        columns[f"{q.title}: printed in the survey"] = [getattr(row, q.field) for row in wanted]
        columns[f"{q.title}: correct in the cited paper"] = [_correct(row.row, q.metric) for row in wanted]
        columns[f"{q.title}: measured here{q.ours}"] = [_cell(found, q.key) for found in ours]
        own = _own_distance(board) if q.key == "fid" else None
        if own is not None:
            columns[f"{own[1]} (our own distance, not FID): measured here"] = [_cell(found, "fd") for found in ours]
    columns["Measured with"] = [_cell(found, "label") for found in ours]
    columns["Errata"] = [notes.cell(row.row) for row in wanted]
    return SurveyTable(title, pd.DataFrame(columns), tuple(notes.texts))


def _correct(row: str, metric: str) -> str:
    """What sources other than the survey have for a cell, each with its data set and its place."""
    found = [f.text for f in figures() if f.strategy == row and f.metric == metric and not f.from_survey]
    return "; ".join(found) or NO_FIGURE


def _ours(row: Printed, board: Leaderboard | None, text: pd.DataFrame) -> list[Best] | str:
    """Our best finished configuration of the row's strategy on each data set and device, or the reason why there is none."""
    if row.reason:
        return row.reason
    if not implemented(row.strategy):
        return f"missing: {row.strategy} is not implemented"
    mine = board.info[board.info["strategy"] == row.strategy] if board is not None else pd.DataFrame()
    if board is None or mine.empty:
        return f"no record of {row.strategy}"
    finished = mine[mine["status"] == str(Status.OK)]
    if finished.empty:
        return f"no finished record of {row.strategy}: {', '.join(sorted(set(mine['status'])))}"
    ranked = finished.loc[board.values.loc[finished.index, board.columns[0].key].sort_values(kind="stable").index]
    best = ranked.drop_duplicates(["dataset", "device"]).sort_values(["dataset", "device"])
    return [_best(board, text, index) for index in best.index]


def _best(board: Leaderboard, text: pd.DataFrame, index: int) -> Best:
    """The texts of one row of the board; one that its columns lack says so."""
    titles = {column.key: column.title for column in board.columns}
    own = _own_distance(board)
    keys = {"fid": "fid", "fd": own[0] if own else "", "steps": "steps", "params": "params", "gflop": "gflop"}
    info = board.info.loc[index]
    latency: float = board.values["p50_ms"].to_dict()[index]
    return {
        **{key: str(text.loc[index, titles[column]]) if column in titles else NOT_MEASURED for key, column in keys.items()},
        "seconds": number(latency / 1e3) if pd.notna(latency) else str(board.reasons.loc[index, "p50_ms"]),
        "device": str(info["device"]),
        "label": f"{info['configuration']}, {info['dataset']}",
    }


def _cell(found: list[Best] | str, key: str) -> str:
    """A text, named by its device where there are several; who measured it is always named by device."""
    if isinstance(found, str):
        return found
    named = len(found) > 1 or key == "label"
    return "; ".join(f"{best[key]} on {best['device']}" if named else best[key] for best in found)


def _own_distance(board: Leaderboard | None) -> tuple[str, str] | None:
    """(key, title) of the Frechet distance on features of our own that stands first in the board."""
    found = [c for c in board.columns if c.key.startswith("fd_") and not is_limit(c.key)] if board is not None else []
    return (found[0].key, found[0].title) if found else None
