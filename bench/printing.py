"""How the command line prints: JSON, small tables, the leaderboard."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from bench.report.frame import Board

PIPE_WIDTH = 200


def as_json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from rich.table import Table

    shown = Table(*head)
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell).replace("[", "\\[") for cell in row))
    _print(shown)


def leaderboard(board: "Board") -> None:
    from bench.report.tables import terminal

    _print(terminal(board))


def _print(shown: RenderableType) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(shown)
