"""What the page shows, as values: rankings with a note for every empty cell, sample grids, provenance."""

import base64
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from bench.cards import task_name
from bench.records.store import Store
from bench.report.leaderboard.board import Column, Leaderboard, is_limit, number
from bench.report.leaderboard.terminal import TERMINAL
from bench.values import Record, configuration

ROWS = 600  # of all rankings together: what a page of 3 MB holds


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """A number with its interval, or the short reason with the number of the note that has the whole of it."""

    text: str
    order: str = ""
    interval: str = ""
    reason: str = ""
    note: int = 0


@dataclass(frozen=True, kw_only=True)
class Head:
    """A column's title; `main` columns are shown before the reader asks for all. A column that is no `number` is a text."""

    title: str
    main: bool
    number: bool


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One configuration: `info` is its row of the board's."""

    info: Mapping[str, object]
    cells: tuple[TableCell, ...]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Rows that may be ranked together: of one task, one data set and one device. `left_out` more are in the files alone."""

    task: str
    dataset: str
    device: str
    heads: tuple[Head, ...]
    rows: tuple[TableRow, ...]
    left_out: int


@dataclass
class Notes:
    """Numbers whole reasons in the order in which they are met."""

    texts: dict[str, int] = field(default_factory=dict)

    def cut(self, reason: str) -> TableCell:
        """The reason up to its colon, with the number of its note; a reason without a colon needs none."""
        short, colon, _ = reason.partition(": ")
        return TableCell(text=short, reason=reason, note=self.texts.setdefault(reason, len(self.texts) + 1) if colon else 0)


def rankings(boards: Mapping[str, Leaderboard], notes: Notes) -> list[Ranking]:
    """A ranking for each task, data set and device, in the boards' order."""
    places = [(task, *place) for task, board in boards.items() for place in _places(board)]
    limit = ROWS // max(1, len(places))
    return [_ranking(boards[task], task, dataset, device, limit, notes) for task, dataset, device in places]


def _places(board: Leaderboard) -> list[tuple[str, str]]:
    return sorted(set(zip(board.info["dataset"], board.info["device"])))


def _ranking(board: Leaderboard, task: str, dataset: str, device: str, limit: int, notes: Notes) -> Ranking:
    rows = board.info.index[(board.info["dataset"] == dataset) & (board.info["device"] == device)]
    return Ranking(
        task=task,
        dataset=dataset,
        device=device,
        heads=tuple(head for column in board.columns for head in _heads(column, board.values.loc[rows, column.key])),
        rows=tuple(_row(board, k, notes) for k in rows[:limit]),
        left_out=max(0, len(rows) - limit),
    )


def _heads(column: Column, values: pd.Series) -> Iterator[Head]:
    """The column's, which is main only where it has a value; and that of the text beside it."""
    main = column.key in TERMINAL or (column.key.startswith(("fid", "fd_")) and not is_limit(column.key))
    yield Head(title=column.title, main=main and bool(values.notna().any()), number=True)
    if column.beside is not None:
        yield Head(title=column.beside[1], main=False, number=False)


def _row(board: Leaderboard, index: int, notes: Notes) -> TableRow:
    info, values, lows, highs, reasons = (_at(f, index) for f in (board.info, board.values, board.lows, board.highs, board.reasons))
    cells: list[TableCell] = []
    for column in board.columns:
        key = column.key
        cells.append(_cell(values[key], lows[key], highs[key], column.digits, str(reasons[key]), notes))
        if column.beside is not None:
            cells.append(_text(str(info[column.beside[0]]), notes))
    return TableRow(info=info, cells=tuple(cells))


def _at(frame: pd.DataFrame, index: int) -> dict[str, Any]:
    return {str(key): value for key, value in frame.loc[index].items()}


def _cell(value: float, low: float, high: float, digits: int, reason: str, notes: Notes) -> TableCell:
    """The number, with its interval where one can be seen at this number of digits; or the reason."""
    if pd.isna(value):
        return notes.cut(reason)
    shown, below, above = (number(x, digits) for x in (value, low, high))
    return TableCell(text=shown, order=f"{value:.9g}", interval="" if pd.isna(low) or below == shown == above else f"[{below}, {above}]")


def _text(text: str, notes: Notes) -> TableCell:
    """A text up to its first comma, with the whole of it as the reason."""
    return notes.cut(text) if ": " in text else TableCell(text=text.split(",")[0], reason=text)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A sample grid as a data URI with its caption."""

    task: str
    caption: str
    uri: str


def inside(store: Store, name: str) -> Path | None:
    """A file of the store; None where there is none, or the name leads out of it: a path in a record is not to be trusted."""
    path = store.folder / name
    return path if path.is_file() and path.resolve().is_relative_to(store.folder.resolve()) else None


def uri(path: Path) -> str:
    """A PNG as a data URI."""
    return _data(path.read_bytes())


def compact(path: Path) -> str:
    """A drawn PNG as a data URI of 128 colours, a third of its size."""
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG")
    return _data(buffer.getvalue())


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def samples(records: Iterable[Record], stores: Sequence[Store], shown: Collection[tuple[str, str]]) -> dict[str, list[Picture]]:
    """By task: one grid a configuration, of its first seed; the real images stand first. `shown` are the (task, configuration) wanted."""
    found: dict[tuple[str, str], Picture] = {}
    for record in sorted(records, key=lambda r: r.cell.seed):
        task = task_name(record.cell.workload.task)
        name = configuration(record.cell.strategy, record.cell.shown)
        path = next((p for s in stores if record.samples_png and (p := inside(s, record.samples_png))), None)
        if path is not None and (task, name) in shown and (task, name) not in found:
            found[task, name] = Picture(task=task, caption=name, uri=uri(path))
    real = next((p for s in stores if (p := inside(s, "samples/real.png"))), None)
    grouped = {"real images": [Picture(task="real images", caption="Real images", uri=uri(real))]} if real else {}
    for picture in sorted(found.values(), key=lambda p: (p.task != "generate", p.task, p.caption)):
        grouped.setdefault(picture.task, []).append(picture)
    return grouped


def provenance(records: Iterable[Record]) -> pd.DataFrame:
    """One row a device: what ran there, when, and from which commits."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.provenance.device, []).append(record)
    return pd.DataFrame([_machine(device, groups[device]) for device in sorted(groups)])


def _machine(device: str, group: Sequence[Record]) -> dict[str, str]:
    def listed(values: Iterable[str]) -> str:
        return ", ".join(sorted(set(values)))

    made = [r.provenance for r in group]
    days = sorted(p.started[:10] for p in made)
    return {
        "Device": device,
        "Records": f"{len(group)}",
        "Seeds": listed(str(r.cell.seed) for r in group),
        "Measured": " to ".join(dict.fromkeys((days[0], days[-1]))),
        "System": listed(p.system for p in made),
        "Commits": listed(p.git or "not under version control" for p in made),
        "Packages": listed(f"{name} {version}" for p in made for name, version in p.versions.items()),
        "Protocol": listed(str(r.cell.protocol) for r in group),
    }


def code_states(boards: Mapping[str, Leaderboard]) -> dict[str, int]:
    """How many configurations were measured with the strategy's code as it is now, with older code, or by a plug-in."""
    states = [str(state) for board in boards.values() for state in board.info["code"]]
    return {state: states.count(state) for state in sorted(set(states))}
