"""The forms of a table beside the page: CSV, Parquet, Markdown, LaTeX. The same table gives the same bytes."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.report.leaderboard.board import Leaderboard
from bench.report.leaderboard.terminal import leaderboard

PRINTED = {  # the columns of a printed page beside the measure that ranks, by the names that fit there
    "nll": "NLL",
    "steps": "Steps",
    "gflop": "GFLOP",
    "params": "Par. (M)",
    "p50_ms": "p50 (ms)",
    "wh": "Wh/1000",
}
MARKDOWN = re.compile(r"[\\`*|~]|(?<=\])\(|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
TEX_BREAKS = re.compile(r"((?:\\_|\.)(?=[A-Za-z])|(?<=\w)\{\[\})")
TEX_SIGNS = {
    "[": "{[}",
    "*": "{*}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "∞": r"$\infty$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    "’": "'",
}
TEX_HEAD = "% needs \\usepackage{array, booktabs, longtable} and, for pages to break, \\onecolumn\n"
TEX_WORDS = re.compile(r"[\s._\[]+")
LINE, PROSE = 95.0, 200  # characters of a line of \scriptsize; those from which on a cell gets no wider


@dataclass(frozen=True, kw_only=True)
class Forms:
    """One table in three degrees of detail: every raw number, what a person reads, and what fits the width of a printed page."""

    raw: pd.DataFrame
    read: pd.DataFrame
    printed: pd.DataFrame


def write_forms(
    stem: str, title: str, table: pd.DataFrame | Leaderboard | Forms, folder: Path, notes: Sequence[str] = ()
) -> tuple[Path, ...]:
    """`<stem>.csv`, `.parquet`, `.md` and `.tex`. `notes` are the footnotes `[1]`, `[2]`, ... that cells refer to."""
    forms = _forms(table)
    csv, parquet, text, tex = (folder / f"{stem}.{end}" for end in ("csv", "parquet", "md", "tex"))
    folder.mkdir(parents=True, exist_ok=True)
    forms.raw.to_csv(csv, index=False, lineterminator="\n")
    typed(forms.raw).to_parquet(parquet, engine="pyarrow", index=False)
    text.write_text(markdown(title, forms.read, notes), encoding="utf-8")
    tex.write_text(latex(title, forms.printed, notes), encoding="utf-8")
    return csv, parquet, text, tex


def _forms(table: pd.DataFrame | Leaderboard | Forms) -> Forms:
    match table:
        case Forms():
            return table
        case Leaderboard():
            return of_board(table)
        case _:
            return Forms(raw=table, read=table, printed=table)


def of_board(board: Leaderboard) -> Forms:
    """Raw: what the row is, then each column with its interval and its reasons beside it, where it has any."""
    raw = [board.info]
    for column in board.columns:
        key = column.key
        parts = {key: board.values[key]}
        if board.lows[key].notna().any():
            parts |= {f"{key}_low": board.lows[key], f"{key}_high": board.highs[key]}
        if board.values[key].isna().any():
            parts[f"{key}_reason"] = board.reasons[key]
        raw.append(pd.DataFrame(parts))
    return Forms(raw=pd.concat(raw, axis=1), read=leaderboard(board), printed=_printed(board))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of numbers as they are; every other one as text, in which an empty cell stays empty."""
    numeric = set(table.select_dtypes("number").columns)
    return table.astype({name: "string" for name in table.columns if name not in numeric})


def markdown(title: str, table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A table of a repository page: text from names stays text, whatever signs it holds."""
    rows: list[tuple[object, ...]] = [tuple(table.columns), *table.itertuples(index=False, name=None)]
    head, *body = ([_markdown(cell) for cell in row] for row in rows)
    lines = [_line(head), "|" + "---|" * len(head), *map(_line, body)]
    footnotes = [f"{k}. {_markdown(note)}" for k, note in enumerate(notes, start=1)]
    return "\n".join([f"# {_markdown(title)}", "", f"{len(body)} rows.", "", *lines, *[""][: len(notes)], *footnotes, ""])


def latex(title: str, table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """Tables to be read into a paper by \\input, as wide as the text: columns share the line by the length of their cells."""
    noted = pd.DataFrame({"": [f"[{k}]" for k in range(1, len(notes) + 1)], "Note": list(notes)})
    parts = [_longtable(part) for part in (table, noted) if len(part)]
    return f"% {_one_line(title)}\n{TEX_HEAD}{{\\scriptsize\\setlength{{\\tabcolsep}}{{2pt}}\n{''.join(parts)}}}\n"


def _printed(board: Leaderboard) -> pd.DataFrame:
    """The main columns: the measure that ranks with its interval, the rest without; reasons up to their colon."""
    with_interval, plain, best = board.text(), board.numbers(), board.columns[0]
    shown = {"Configuration": board.info["configuration"], best.title: with_interval[best.title].map(_short)}
    others = {PRINTED[c.key]: plain[c.title].map(_short) for c in board.columns if c.key in PRINTED}
    return pd.DataFrame({**shown, **others})


def _short(cell: str) -> str:
    head = cell.split(":")[0]
    return "n/a" if head == "not applicable" else head


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(cell: object) -> str:
    """Signs of Markdown behind a backslash, signs of HTML as entities."""
    text = _one_line(cell).replace("&", "&amp;").replace("<", "&lt;")
    return MARKDOWN.sub(lambda sign: f"\\{sign[0]}", text)


def _longtable(table: pd.DataFrame) -> str:
    lines = [f"\\dimexpr{share:.4f}\\linewidth-2\\tabcolsep\\relax" for share in _shares(table)]
    widths = [f">{{\\raggedright\\arraybackslash}}p{{{line}}}" for line in lines]
    text: Callable[[object], str] = _tex
    style = table.map(_one_line).reset_index(drop=True).style.hide(axis="index")
    style = style.format(text, escape="latex").format_index(text, axis=1, escape="latex")
    return style.to_latex(environment="longtable", hrules=True, column_format="".join(widths))


def _shares(table: pd.DataFrame) -> list[float]:
    """Shares of the line, sum 1: to each column its longest word, and of what is left the more, the longer its longest cell."""
    columns = [[str(cell) for cell in (name, *table[name])] for name in table.columns]
    words = [1.0 + max(len(word) for cell in cells for word in TEX_WORDS.split(cell)) for cells in columns]
    cells = [min(PROSE, max(map(len, cells))) for cells in columns]
    left = max(0.0, LINE - sum(words))
    claims = [word + left * cell / max(1, sum(cells)) for word, cell in zip(words, cells)]
    return [claim / sum(claims) for claim in claims]


def _tex(cell: object) -> str:
    """After Styler's escape: signs that TeX lacks by name, brackets and stars held from `\\\\`, and places where long names may break."""
    text = "".join(TEX_SIGNS.get(sign, sign if _in_tex(sign) else f"({unicodedata.name(sign, 'unnamed').lower()})") for sign in str(cell))
    return TEX_BREAKS.sub(r"\1\\allowbreak ", text)


def _in_tex(sign: str) -> bool:
    """Plain ASCII, and letters that are ASCII with an accent."""
    return sign.isascii() or (ord(sign) < 0x180 and unicodedata.normalize("NFD", sign)[0].isascii())


def _one_line(cell: object) -> str:
    """Without line breaks and control characters, which end rows."""
    text = " ".join(str(cell).split())
    return "".join(sign for sign in text if unicodedata.category(sign) != "Cc")
