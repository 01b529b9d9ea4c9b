"""The tables of the report: leaderboard, and the two blocks of the survey's Table III in its own columns."""

import pandas as pd
from rich.table import Table

from bench.report.frame import Board, is_limit, number
from bench.survey import rows
from bench.values import Status

TERMINAL = ("psnr", "nll", "steps", "nfe", "gflop", "params", "p50_ms", "images_per_s", "wh", "train_s")
SHORT = {"not applicable": "n/a", "weights not found": "no weights", "not in this suite": "-"}


def leaderboard(board: Board) -> pd.DataFrame:
    """One row per configuration, every cell a number or its reason: names, measures, then what the row was made with."""
    before = board.info[["configuration", "title"]].set_axis(["Configuration", "Strategy"], axis=1)
    after = board.info[["heading", "year", "seeds", "device", "code"]].set_axis(["Heading", "Year", "Seeds", "Device", "Code"], axis=1)
    return pd.concat([before, board.text(), after], axis=1)


def noted(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with long reasons cut at their colon and numbered; the whole reasons are added to `notes`."""

    def cut(cell: object) -> object:
        if not isinstance(cell, str) or ": " not in cell:
            return cell
        if cell not in notes:
            notes.append(cell)
        return f"{cell.split(':')[0]} [{notes.index(cell) + 1}]"

    return table.map(cut)


def terminal(board: Board, title: str) -> Table:
    """The leaderboard as it fits a terminal: quality first, then the main costs; reasons shortened."""
    wanted = [c for c in board.columns if (c.key.startswith(("fid", "fd_")) and not is_limit(c.key)) or c.key in TERMINAL]
    table = Table(title=title, row_styles=["", "dim"])
    table.add_column("Configuration", no_wrap=True)
    for column in wanted:
        title = column.title.replace("efficientnet_lite0", "effnet").replace(" ", "\n", 1).replace("/image", "/\nimage")
        table.add_column(title, justify="right", no_wrap=True)
    text = board.text()
    for row in range(len(text)):
        cells = [_short(text[c.title].iloc[row]) for c in wanted]
        table.add_row(_plain(board.info["configuration"].iloc[row]), *cells)
    return table


def table_three(board: Board) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Blocks of Table III, measured here: (Model, Year, FID, Steps, Parameters) and (Model, FLOPs, Parameters, Inference time).

    Of each strategy and device the best configuration by quality; the device is named where there are several.
    The FID column holds FID alone; distances of other extractors have their own.
    """
    ok = board.info["status"] == str(Status.OK)
    best = board.info[ok & (board.info["heading"] != "control")].drop_duplicates(["strategy", "device"]).index
    text = board.text().loc[best]
    fid = text["FID"] if "FID" in text else pd.Series("not in this suite", index=best)
    others = {c.title: text[c.title] for c in board.columns if c.key.startswith("fd_")}
    model = board.info.loc[best, "configuration"]
    if board.info["device"].nunique() > 1:
        model = model + " on " + board.info.loc[best, "device"]
    first = pd.DataFrame(
        {
            "Model": model,
            "Year": board.info.loc[best, "year"],
            "FID": fid,
            **others,
            "Steps": text["Steps"],
            "Parameters (M)": text["Parameters (M)"],
        }
    )
    seconds = [number(v / 1e3) for v in board.values.loc[best, "p50_ms"]]
    second = pd.DataFrame(
        {
            "Model": model,
            "FLOPs (G)": text["GFLOP/image"],
            "Parameters (M)": text["Parameters (M)"],
            "Inference time (s)": seconds,
        }
    )
    return first.reset_index(drop=True), second.reset_index(drop=True)


def printed() -> pd.DataFrame:
    """Table III as the survey prints it."""
    found = [r for r in rows() if r.table == "III"]
    return pd.DataFrame({"Model": [r.model for r in found], "Block": [r.group for r in found], "As printed": [r.phrase for r in found]})


def _short(text: str) -> str:
    """A reason up to its colon; `bench status` and the page have the whole of it."""
    head = text.split(":")[0]
    return SHORT.get(head, head)


def _plain(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", "\\[")
