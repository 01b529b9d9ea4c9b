"""Errors of the survey, row by row, each with its evidence. No torch."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.survey import rows
from bench.survey.csvfile import lines
from bench.values import UserError

ERRATA = Path(__file__).parent / "errata.csv"
COLUMNS = ("row", "error", "evidence", "verified")
FLAGS = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Erratum:
    """What is wrong or ambiguous in a row. `verified`: checked in the evidence; otherwise recalled or inferred."""

    row: str
    error: str
    evidence: str
    verified: bool

    @property
    def text(self) -> str:
        """The error and its evidence; marked where it was not checked."""
        return f"{'' if self.verified else 'unverified: '}{self.error} Evidence: {self.evidence}."


@cache
def errata(path: Path = ERRATA) -> tuple[Erratum, ...]:
    """All errata, in the order of the file. Raises UserError with the line number of the first row that is not as it must be."""
    known = {row.id for row in rows()}
    return tuple(_erratum(raw, place, known) for place, raw in lines(path, COLUMNS))


def _erratum(raw: dict[str, str], place: str, known: set[str]) -> Erratum:
    if raw["row"] not in known:
        raise UserError(f"{place}: '{raw['row']}' is no row of the survey")
    if raw["verified"] not in FLAGS:
        raise UserError(f"{place}: verified is yes or no, not '{raw['verified']}'")
    if not (raw["error"] and raw["evidence"]):
        raise UserError(f"{place}: an erratum has a text and its evidence")
    return Erratum(row=raw["row"], error=raw["error"], evidence=raw["evidence"], verified=FLAGS[raw["verified"]])
