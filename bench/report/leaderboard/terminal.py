"""The leaderboard as a table: whole for files, shortened for a terminal."""

import pandas as pd
from rich.table import Table

from bench.report.leaderboard.board import Leaderboard, is_limit

TERMINAL = ("psnr", "nll", "steps", "nfe", "gflop", "params", "p50_ms", "images_per_s", "wh", "train_s")
TERMINAL_ROWS = 100
SHORT = {"not applicable": "n/a", "weights not found": "no weights", "not in this suite": "-"}


def leaderboard(board: Leaderboard) -> pd.DataFrame:
    """One row per configuration, every cell a number or its reason: names, measures, then what the row was made with."""
    before = board.info[["configuration", "title"]].set_axis(["Configuration", "Strategy"], axis=1)
    made = ["half", "heading", "year", "seeds", "device", "code"]
    after = board.info[made].set_axis([name.capitalize() for name in made], axis=1)
    return pd.concat([before, board.text(), after], axis=1)


def terminal(board: Leaderboard, title: str) -> Table:
    """The leaderboard as it fits a terminal: quality first, then the main costs; reasons shortened."""
    wanted = [c for c in board.columns if (c.key.startswith(("fid", "fd_")) and not is_limit(c.key)) or c.key in TERMINAL]
    table = Table(title=title, row_styles=["", "dim"])
    table.add_column("Configuration", no_wrap=True)
    for column in wanted:
        title = column.title.replace("efficientnet_lite0", "effnet").replace(" ", "\n", 1).replace("/image", "/\nimage")
        table.add_column(title, justify="right", no_wrap=True)
    text = board.numbers()
    shown = min(len(text), TERMINAL_ROWS)
    if shown < len(text):
        table.caption = f"the best {shown} of {len(text):,}; the report's files have all"
    for row in range(shown):
        cells = [_short(text[c.title].iloc[row]) for c in wanted]
        table.add_row(_plain(board.info["configuration"].iloc[row]), *cells)
    return table


def _short(text: str) -> str:
    """A reason up to its colon; `bench status` and the page have the whole of it."""
    head = text.split(":")[0]
    return SHORT.get(head, head)


def _plain(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", "\\[")
