"""What papers print of the survey's systems, figure by figure, with where each figure was read. No torch.

`published.csv` names for each figure a strategy of ours, a row of the survey's Table III, or a method outside the survey (`beyond.`).
A figure that nobody has seen in a source is kept and marked: `text` writes the word `unverified` before it.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeVar

from bench.survey import rows
from bench.survey.csvfile import lines
from bench.values import UserError

PUBLISHED = Path(__file__).parent / "published.csv"
SURVEY = "2210.09292"
BEYOND = "beyond."
ARXIV = re.compile(r"\d{4}\.\d{5}")
E = TypeVar("E", bound=StrEnum)


class Grade(StrEnum):
    """direct: read in the paper's own text, abstract or official README; secondary: reprinted or reported by another source.

    carried: read in the paper's text at an earlier reading, not a second time; unverified: recalled or inferred, seen in no source.
    """

    DIRECT = "direct"
    SECONDARY = "secondary"
    CARRIED = "carried"
    UNVERIFIED = "unverified"


class Direction(StrEnum):
    """What is better; `none` for a setting, which is neither."""

    LOWER = "lower"
    HIGHER = "higher"
    MATCH = "match real data"
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """One published number. `printed` are its digits as printed, empty where no figure was found; the metric names the unit."""

    strategy: str
    model: str
    dataset: str
    setting: str
    metric: str
    printed: str
    direction: Direction
    source_paper: str
    where: str
    grade: Grade
    evidence: str
    note: str

    @property
    def value(self) -> float | None:
        return float(self.printed) if self.printed else None

    @property
    def verified(self) -> bool:
        return self.grade is not Grade.UNVERIFIED

    @property
    def from_survey(self) -> bool:
        """Whether it is the survey's own print, not the cited paper's."""
        return self.source_paper == SURVEY

    @property
    def text(self) -> str:
        """`1.90 (LSUN Bedroom 256x256, 1000 steps; arXiv 2105.05233, Table 5)`, with its grade where that is not `direct`."""
        if not self.printed:
            return f"unverified: {self.note or 'no figure found'}"
        measured_on = ", ".join(part for part in (self.dataset, self.setting) if part)
        told = f"{self.printed} ({measured_on}; arXiv {self.source_paper}, {self.where})"
        match self.grade:
            case Grade.UNVERIFIED:
                return f"unverified: {told}"
            case Grade.SECONDARY:
                return f"{told}, second-hand"
            case Grade.DIRECT | Grade.CARRIED:
                return told


COLUMNS = ("strategy", "model", "dataset", "setting", "metric", "value", "direction", "source_paper", "where", "verified", "grade")
TEXTS = ("evidence", "note")


@cache
def figures(path: Path = PUBLISHED) -> tuple[PublishedFigure, ...]:
    """All figures, in the order of the file. Raises UserError with the line number of the first row that is not as it must be."""
    subjects = {name for row in rows() for name in (row.id, *row.strategies)}
    found: dict[tuple[str, ...], PublishedFigure] = {}
    for place, raw in lines(path, COLUMNS + TEXTS):
        figure = _figure(raw, place, subjects)
        key = (figure.strategy, figure.model, figure.dataset, figure.setting, figure.metric)
        if key in found:
            raise UserError(f"{place}: the same figure stands above: {' | '.join(key)}")
        found[key] = figure
    return tuple(found.values())


def _figure(raw: dict[str, str], place: str, subjects: set[str]) -> PublishedFigure:
    name = raw["strategy"]
    if name not in subjects and not name.startswith(BEYOND):
        raise UserError(f"{place}: '{name}' is no strategy and no row of the survey")
    grade, direction = _member(Grade, raw["grade"], place), _member(Direction, raw["direction"], place)
    if raw["verified"] != ("no" if grade is Grade.UNVERIFIED else "yes"):
        raise UserError(f"{place}: grade '{grade}' with verified '{raw['verified']}'")
    if grade is not Grade.UNVERIFIED and not (raw["value"] and raw["evidence"]):
        raise UserError(f"{place}: a verified figure has a value and its evidence")
    if raw["value"] and not _finite(raw["value"]):
        raise UserError(f"{place}: '{raw['value']}' is no finite number")
    if not ARXIV.fullmatch(raw["source_paper"]):
        raise UserError(f"{place}: '{raw['source_paper']}' is no arXiv number")
    if not (raw["model"] and raw["metric"] and raw["where"]):
        raise UserError(f"{place}: a figure has a model, a metric and a place in its source")
    plain = {key: raw[key] for key in ("strategy", "model", "dataset", "setting", "metric", "source_paper", "where", *TEXTS)}
    return PublishedFigure(**plain, printed=raw["value"], direction=direction, grade=grade)


def _member(kind: type[E], text: str, place: str) -> E:
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"{place}: {kind.__name__.lower()} '{text}' is none of {', '.join(repr(str(k)) for k in kind)}") from None


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
