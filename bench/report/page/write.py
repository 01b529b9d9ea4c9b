"""The report of one suite: tables, pictures and one self-contained HTML page, from records alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.cards import Generate, task_name
from bench.records.store import Store, slug, write_atomic
from bench.report import plots
from bench.report.leaderboard.board import Leaderboard, board, by_task, comparable, latest
from bench.report.page import render as shell
from bench.report.page import view
from bench.report.page.collector import at_rest
from bench.report.page.files import Forms, write_forms
from bench.report.survey import claims
from bench.report.survey.bibliography import bibtex
from bench.report.survey.tables import SurveyTable, survey_tables
from bench.values import Record, UserError

SURVEY_STEMS = ("table-i", "table-ii", "table-iii-top", "table-iii-bottom")
SECTIONS = {
    "leaderboard": "Leaderboard",
    "claims": "Claims audit",
    "pictures": "Pictures",
    "survey": "Tables of the survey",
    "samples": "Samples",
    "provenance": "Provenance",
    "files": "Files",
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and the boards it shows, by task."""

    html: Path
    files: tuple[Path, ...]
    boards: dict[str, Leaderboard]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the page is made of."""

    suite: str
    records: list[Record]
    boards: dict[str, Leaderboard]
    audits: list[claims.Audit]
    survey: tuple[SurveyTable, ...]
    figures: list[plots.Figure]
    stores: Sequence[Store]
    left_out: int


@at_rest()
def write(suite: str, stores: Sequence[Store], out: Path) -> Report:
    """Everything that a person would look at, for the records of these stores. Raises UserError where there are none."""
    every = [record for store in stores for record in store.records()]
    records = comparable(every)
    if not records:
        raise UserError(f"no records of suite '{suite}' yet; `bench run {suite}` makes them")
    out.mkdir(parents=True, exist_ok=True)
    boards = {task: board(found) for task, found in by_task(records).items()}
    contents = Contents(
        suite=suite,
        records=records,
        boards=boards,
        audits=claims.audit(records),
        survey=survey_tables(records, boards),
        figures=plots.draw(boards, records, stores, out),
        stores=stores,
        left_out=len(latest(every)) - len(records),
    )
    files = _files(contents, out)
    html = out / "index.html"
    write_atomic(html, page(contents, files).encode())
    return Report(html=html, files=(html, *files), boards=boards)


def _files(contents: Contents, out: Path) -> tuple[Path, ...]:
    """The tables in their forms, the references, the pictures; a leaderboard of a task other than `Generate` bears its name."""
    tables: list[Path] = []
    for task, rows in contents.boards.items():
        stem = "leaderboard" if task == task_name(Generate()) else f"leaderboard-{slug(task)}"
        tables += write_forms(stem, f"Leaderboard of {contents.suite}: {task}", rows, out)
    for stem, table in zip(SURVEY_STEMS, contents.survey, strict=True):
        tables += write_forms(stem, table.title, table.frame, out, table.notes)
    printed = claims.printed_claims(contents.audits)
    audited = Forms(raw=claims.claims_table(contents.audits), read=printed, printed=printed)
    tables += write_forms("claims", f"Claims audit of {contents.suite}", audited, out)
    references = out / "references.bib"
    write_atomic(references, bibtex(contents.records).encode())
    return (*tables, references, *(path for figure in contents.figures for path in (figure.png, figure.svg)))


def page(contents: Contents, files: Iterable[Path]) -> str:
    """The page as text: the same contents, the same bytes."""
    notes = view.Notes()
    rankings = view.rankings(contents.boards, notes)
    shown = {(ranking.task, str(row.info["configuration"])) for ranking in rankings for row in ranking.rows}
    return shell.render(
        "page.html.j2",
        "page.js",
        suite=contents.suite,
        records=contents.records,
        example=contents.records[0],
        sections={key: name for key, name in SECTIONS.items() if key != "pictures" or contents.figures},
        rankings=rankings,
        notes=list(notes.texts),
        choices=_choices(rankings, contents.audits),
        held_out_copied=_held_out_copied(contents.records),
        audits=contents.audits,
        verdicts=_counts(contents.audits),
        enough_seeds=claims.ENOUGH_SEEDS,
        with_interval=claims.with_interval,
        figures=[{"title": f.title, "alt": f.alt, "svg": f.svg.name, "uri": view.compact(f.png)} for f in contents.figures],
        survey=contents.survey,
        samples=view.samples(contents.records, contents.stores, shown),
        machines=view.provenance(contents.records),
        code=view.code_states(contents.boards),
        left_out=contents.left_out,
        itables=version("itables"),
        files=_by_stem(files),
    )


def _by_stem(files: Iterable[Path]) -> dict[str, list[str]]:
    """Names of files that differ in their suffix alone stand together."""
    found: dict[str, list[str]] = {}
    for path in files:
        found.setdefault(path.stem, []).append(path.name)
    return found


def _choices(rankings: Sequence[view.Ranking], audits: Iterable[claims.Audit]) -> dict[str, list[str]]:
    """What the drop-downs offer: what occurs, tasks in the order of their tables."""
    rows = [row.info for ranking in rankings for row in ranking.rows]
    return {
        **{key: sorted({str(info[key]) for info in rows}) for key in ("half", "heading")},
        **{key: list(dict.fromkeys(str(getattr(r, key)) for r in rankings)) for key in ("task", "dataset", "device")},
        "claimed": sorted({a.heading for a in audits}),
    }


def _counts(audits: Iterable[claims.Audit]) -> Mapping[str, int]:
    found = Counter(a.verdict for a in audits)
    return {str(verdict): found[verdict] for verdict in claims.ClaimVerdict}


def _held_out_copied(records: list[Record]) -> str:
    """The share of copies among held-out images, which copy nothing: their range over the records, or `not recorded`."""
    found = [m.value for r in records if (m := r.scores.get("held_out_copied")) and m.value is not None]
    return " to ".join(dict.fromkeys(f"{value:.3f}" for value in (min(found), max(found)))) if found else "not recorded"
