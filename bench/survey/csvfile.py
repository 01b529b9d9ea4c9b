"""The survey's CSV files, line by line, so that a fault is told with the line it stands on. No torch."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.values import UserError


def lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every row by column name, with its place as `errata.csv, line 7`. Raises UserError for another head or a row of another length."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        head = next(reader, [])
        if head != list(columns):
            raise UserError(f"{path.name}, line 1: the columns are {', '.join(columns)}, not {', '.join(head)}")
        for cells in reader:
            place = f"{path.name}, line {reader.line_num}"
            if len(cells) != len(head):
                raise UserError(f"{place}: {len(cells)} cells, not {len(head)}")
            yield place, dict(zip(head, cells))
