"""The survey's rows as the project's own data, and what has become of each. No torch.

Source: "Efficient Diffusion Models for Vision", arXiv 2210.09292, tables I to III and running text.
"""

import csv
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

ROWS = Path(__file__).parent / "rows.csv"
PUBLISHED_ROW = "published row"
BUILT_IN = "strategies"


class RowStatus(StrEnum):
    """measured: an OK record of it is published; published: the row is a figure in Table III, not a system of ours."""

    MEASURED = "measured"
    IMPLEMENTED = "implemented"
    MISSING = "missing"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    id: str
    table: str
    group: str
    model: str
    phrase: str
    paper: str
    arxiv: str
    strategies: tuple[str, ...]


def rows() -> list[Row]:
    """All rows, in the survey's order."""
    with open(ROWS, newline="", encoding="utf-8") as file:
        return [
            Row(
                id=raw["id"],
                table=raw["table"],
                group=raw["group"],
                model=raw["model"],
                phrase=raw["survey_phrase"],
                paper=raw["paper"],
                arxiv=raw["arxiv"],
                strategies=() if raw["strategy"] == PUBLISHED_ROW else tuple(raw["strategy"].split(";")),
            )
            for raw in csv.DictReader(file)
        ]


def status(row: Row, measured: set[str]) -> RowStatus:
    """A row with several strategies is as far as the least of them."""
    if not row.strategies:
        return RowStatus.PUBLISHED
    if not all(implemented(name) for name in row.strategies):
        return RowStatus.MISSING
    return RowStatus.MEASURED if all(name in measured for name in row.strategies) else RowStatus.IMPLEMENTED


def implemented(name: str) -> bool:
    """Whether the strategy's file, or its package, exists; its path is its name, so nothing need be imported."""
    spec = find_spec(BUILT_IN)
    folders = spec.submodule_search_locations if spec is not None else None
    places = [Path(folder, *name.split(".")) for folder in folders or ()]
    return any(place.with_suffix(".py").is_file() or _is_strategy(place / "__init__.py") for place in places)


def _is_strategy(package: Path) -> bool:
    """Rooms of the taxonomy are packages too, but empty ones."""
    return package.is_file() and package.stat().st_size > 0


def overview(measured: set[str]) -> list[dict[str, object]]:
    """One plain object per row, for `bench survey`."""
    return [
        {
            "id": row.id,
            "table": row.table,
            "group": row.group,
            "model": row.model,
            "strategies": list(row.strategies),
            "status": str(status(row, measured)),
        }
        for row in rows()
    ]
