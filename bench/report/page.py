"""The report of one suite: CSV, Markdown, pictures and one self-contained HTML page, from records alone."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from bench.cards import Generate, task_name
from bench.harness.store import Store, slug
from bench.report import claims, plots, tables
from bench.report.frame import Board, board, by_task, latest
from bench.values import Record, UserError, configuration


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and the boards it shows, by task."""

    html: Path
    files: tuple[Path, ...]
    boards: dict[str, Board]


@dataclass(frozen=True)
class Picture:
    """A sample grid as a data URI with its caption."""

    caption: str
    uri: str


def write(suite: str, stores: Sequence[Store], out: Path) -> Report:
    """Everything that a person would look at, for the records of these stores."""
    records = latest(record for store in stores for record in store.records())
    if not records:
        raise UserError(f"no records of suite '{suite}' yet; `bench run {suite}` makes them")
    out.mkdir(parents=True, exist_ok=True)
    boards = {task: board(found) for task, found in by_task(records).items()}
    first = next(iter(boards.values()))
    pictures = plots.quality_against_cost(first, out)
    html = out / "index.html"
    html.write_text(_page(suite, records, boards, pictures, stores), encoding="utf-8")
    tabled = [path for task, rows in boards.items() for path in _tables(suite, task, rows, out)]
    return Report(html=html, files=(html, *tabled, *pictures), boards=boards)


def _tables(suite: str, task: str, rows: Board, out: Path) -> tuple[Path, Path]:
    """`leaderboard.csv` and `.md`; those of a task other than `Generate` bear its name."""
    stem = "leaderboard" if task == task_name(Generate()) else f"leaderboard-{slug(task)}"
    csv, text = out / f"{stem}.csv", out / f"{stem}.md"
    _csv(rows).to_csv(csv, index=False)
    text.write_text(markdown(suite, task, rows), encoding="utf-8")
    return csv, text


def markdown(suite: str, task: str, rows: Board) -> str:
    """The leaderboard for a repository page; `|` and `<` in names stay text."""
    safe = tables.leaderboard(rows).map(lambda cell: str(cell).replace("|", "\\|").replace("<", "&lt;"))
    head = f"| {' | '.join(safe.columns)} |\n|{'---|' * len(safe.columns)}\n"
    body = "".join(f"| {' | '.join(row)} |\n" for row in safe.itertuples(index=False, name=None))
    return f"# Leaderboard of {suite}: {task}\n\n{len(rows.info)} configurations. A cell without a number says why.\n\n{head}{body}"


def _csv(rows: Board) -> pd.DataFrame:
    """Raw numbers, with a column of reasons beside every column that has an empty cell."""
    table = pd.concat([rows.info, rows.values], axis=1)
    for column in rows.columns:
        if rows.values[column.key].isna().any():
            table[f"{column.key}_reason"] = rows.reasons[column.key]
    return table


def _page(suite: str, records: list[Record], boards: dict[str, Board], pictures: list[Path], stores: Sequence[Store]) -> str:
    environment = Environment(loader=PackageLoader("bench.report"), autoescape=True)
    notes: list[str] = []
    leaderboards = {task: tables.noted(tables.leaderboard(rows), notes) for task, rows in boards.items()}
    generated = boards.get(task_name(Generate()))
    table_three = [tables.noted(block, notes) for block in tables.table_three(generated)] if generated else []
    return environment.get_template("page.html.j2").render(
        suite=suite,
        records=records,
        leaderboards=leaderboards,
        notes=notes,
        table_three=table_three,
        printed=tables.printed(),
        audits=claims.audit(records),
        plots=[_uri(p) for p in pictures if p.suffix == ".png"],
        grids=_grids(records, stores),
        devices=sorted({r.provenance.device for r in records}),
        example=records[0],
        held_out_copied=_held_out_copied(records),
    )


def _held_out_copied(records: list[Record]) -> str:
    """The share of copies among held-out images, which copy nothing: their range over the records, or `not recorded`."""
    found = [m.value for r in records if (m := r.scores.get("held_out_copied")) and m.value is not None]
    return " to ".join(dict.fromkeys(f"{value:.3f}" for value in (min(found), max(found)))) if found else "not recorded"


def _grids(records: list[Record], stores: Sequence[Store]) -> list[Picture]:
    """Real images first, then one grid per configuration, first seed."""
    found = [Picture("Real images", _uri(p)) for s in stores[:1] if (p := s.folder / "samples" / "real.png").is_file()]
    seen = set()
    for record in records:
        name = configuration(record.cell.strategy, record.cell.shown, record.cell.workload.task)
        path = next((p for s in stores if record.samples_png and (p := s.folder / record.samples_png).is_file()), None)
        if path is not None and name not in seen:
            seen.add(name)
            found.append(Picture(name, _uri(path)))
    return found[:1] + sorted(found[1:], key=lambda picture: picture.caption)


def _uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
