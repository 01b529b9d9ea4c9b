"""The survey's Table III digit by digit as printed, and which strategy of ours stands for each of its rows. No torch."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.survey import rows
from bench.survey.csvfile import lines
from bench.values import UserError

TABLE_THREE = Path(__file__).parent / "table_three.csv"
COLUMNS = ("row", "year", "fid", "steps", "parameters", "flop", "inference_time", "strategy", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """One row: texts as the survey prints them, empty where its block has no such column. `reason` says why there is no strategy."""

    row: str
    year: str
    fid: str
    steps: str
    parameters: str
    flop: str
    inference_time: str
    strategy: str
    reason: str

    @property
    def top(self) -> bool:
        """Whether it stands in the block captioned ImageNet; the other is captioned COCO."""
        return bool(self.fid)


@cache
def printed(path: Path = TABLE_THREE) -> tuple[Printed, ...]:
    """All rows, in the survey's order. Raises UserError with the line number for a row of no table III, or without strategy and reason."""
    known = {row.id for row in rows() if row.table == "III"}
    found = []
    for place, raw in lines(path, COLUMNS):
        if raw["row"] not in known:
            raise UserError(f"{place}: '{raw['row']}' is no row of Table III")
        if bool(raw["strategy"]) == bool(raw["reason"]):
            raise UserError(f"{place}: a row has a strategy or a reason, and not both")
        found.append(Printed(**raw))
    return tuple(found)
