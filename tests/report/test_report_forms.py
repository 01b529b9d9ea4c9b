"""The forms of a table: raw numbers come back as they were, text stays text in each form, and the same table gives the same bytes."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import pytest

from bench.cli import printing
from bench.measures import Measure
from bench.report.leaderboard.board import Leaderboard, board
from bench.report.page.files import latex, markdown, of_board, write_forms
from bench.values import Record
from tests.made_records import made_record

EVIL = "<script>|\\`*_~[x](y)#%$&{}^_é∞−σ\nnew"
TEX = shutil.which("pdflatex") or shutil.which("tectonic")


@pytest.fixture
def rows(records: list[Record]) -> Leaderboard:
    seen = dataclasses.replace(records[0], scores={**records[0].scores, "fd_digits": Measure(value=1.0, low=0.5, high=1.5, n=500)})
    evil = dataclasses.replace(made_record("eps.noise.ddgm", steps=7, quality=4.0), card=dataclasses.replace(seen.card, title=EVIL))
    evil = dataclasses.replace(evil, cell=dataclasses.replace(evil.cell, strategy=EVIL))
    return board([seen, *records[1:], evil])


def test_raw_numbers_come_back(rows: Leaderboard, tmp_path: Path) -> None:
    csv, parquet, _, _ = write_forms("leaderboard", "Leaderboard", rows, tmp_path)
    from_csv, from_parquet = pd.read_csv(csv), pd.read_parquet(parquet)
    assert list(from_csv.columns) == list(from_parquet.columns)
    for column in rows.columns:
        for table in (from_csv, from_parquet):
            pd.testing.assert_series_equal(table[column.key].astype(float), rows.values[column.key], check_exact=True)
    assert from_csv["fd_digits_low"].dropna().tolist() == [0.5] and from_csv["fd_digits_high"].dropna().tolist() == [1.5]
    assert from_csv["fid_reason"].iloc[0] == from_parquet["fid_reason"].iloc[0] == "weights not found"
    assert "gflop_low" not in from_csv  # no row has an interval there


def test_parquet_is_typed(rows: Leaderboard, tmp_path: Path) -> None:
    schema = pyarrow.parquet.read_schema(write_forms("leaderboard", "Leaderboard", rows, tmp_path)[1])
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert {kinds[column.key] for column in rows.columns} == {"double"} and kinds["fd_digits_low"] == "double"
    assert kinds["year"] == kinds["seeds"] == "int64" and "string" in kinds["configuration"] and "string" in kinds["fid_reason"]


def test_text_stays_text_in_the_raw_forms(rows: Leaderboard, tmp_path: Path) -> None:
    csv, parquet, _, _ = write_forms("leaderboard", "Leaderboard", rows, tmp_path)
    assert EVIL in set(pd.read_csv(csv)["title"]) and EVIL in set(pd.read_parquet(parquet)["title"])


def test_again_gives_the_same_bytes(rows: Leaderboard, records: list[Record], tmp_path: Path) -> None:
    first = write_forms("leaderboard", "Leaderboard", rows, tmp_path / "a")
    second = write_forms("leaderboard", "Leaderboard", rows, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert [p.name for p in first] == ["leaderboard.csv", "leaderboard.parquet", "leaderboard.md", "leaderboard.tex"]
    other = write_forms("leaderboard", "Leaderboard", board(records[:1]), tmp_path / "c")
    assert all(p.read_bytes() != q.read_bytes() for p, q in zip(first, other))


def test_markdown_keeps_its_columns() -> None:
    text = markdown("A | title", pd.DataFrame({"Name": [EVIL, "eds.state_space.ddpm[steps=5]"], "n": ["1 [1]", "2"]}), ["a <note>"])
    head, rule, *body = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, *body)} == {3} and len(body) == 2
    assert "<script" not in text and "&lt;script>\\|" in body[0] and "[x]\\(y)" in body[0]
    assert "| eds.state_space.ddpm[steps=5] | 2 |" in body
    assert text.startswith("# A \\| title\n") and text.endswith("\n1. a &lt;note>\n")


def test_markdown_without_notes_ends_with_the_table() -> None:
    assert markdown("T", pd.DataFrame({"a": ["b"]})).endswith("| a |\n|---|\n| b |\n")


def test_latex_is_whole(rows: Leaderboard) -> None:
    """Every row has all its cells, braces pair off, and no sign with a meaning to TeX is left from a name."""
    table = of_board(rows).printed
    text = latex("Leaderboard of my_suite", table)
    assert text.count("\\toprule") == 2 and text.count("\\bottomrule") == 1 and "\\begin{longtable}" in text
    body = text.split("\\endlastfoot\n")[1].split("\\end{longtable}")[0].splitlines()
    assert len(body) == len(rows.info)
    for line in body:
        assert line.endswith(r" \\") and len(re.findall(r"(?<!\\)&", line)) == len(table.columns) - 1
        bare = re.sub(r"(?<!\\)\$[^$]*\$", "", line)  # signs of mathematics
        assert not re.search(r"(?<!\\)[_%#$^]|[<>|]|(?<!\{)\[", bare)
        unescaped = re.sub(r"\\[{}]", "", line)
        assert unescaped.count("{") == unescaped.count("}")
    assert "script" in "".join(body) and "é" in "".join(body)


def test_latex_columns_share_the_line(rows: Leaderboard) -> None:
    text = latex("Leaderboard", of_board(rows).printed)
    shares = [float(share) for share in re.findall(r"dimexpr([\d.]+)", text)]
    assert len(shares) == len(of_board(rows).printed.columns) and sum(shares) == pytest.approx(1, abs=1e-3)
    assert "1 {[}0.5, 1.5]" in text  # the measure that ranks has its interval


def test_no_prose_squeezes_short_words() -> None:
    text = latex("Systems", pd.DataFrame({"Row": ["III-04"], "Claims": ["a claim of many words " * 40], "State": ["measured"]}))
    row, claims, state = (float(share) for share in re.findall(r"dimexpr([\d.]+)", text))
    characters = 345 / 3.6  # of 7 pt type on a line of 345 pt
    assert row * characters > len("III-04") and state * characters > len("measured") and claims > 0.5


@pytest.mark.skipif(TEX is None, reason="no pdflatex and no tectonic here")
def test_latex_compiles(rows: Leaderboard, tmp_path: Path) -> None:
    assert TEX is not None
    fragment = latex("Leaderboard", of_board(rows).printed) + latex(EVIL, pd.DataFrame({"Model": [EVIL], "Note": ["[1]"]}), [EVIL])
    head = "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{array, booktabs, longtable}\n\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(head + fragment + "\\end{document}\n", encoding="utf-8")
    words = ["-interaction=nonstopmode", "-halt-on-error"] if TEX.endswith("pdflatex") else []
    done = subprocess.run([TEX, *words, "paper.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and (tmp_path / "paper.pdf").is_file(), done.stdout[-2000:]


def test_a_plain_table_has_all_forms(tmp_path: Path) -> None:
    table = pd.DataFrame({"Model": ["PGGAN", "DDGAN [1]"], "Year": [2017, 2021], "Seeds": ["2", 3]})
    csv, parquet, text, tex = write_forms("table-three", "Table III", table, tmp_path, notes=("a note",))
    assert pd.read_csv(csv)["Year"].tolist() == pd.read_parquet(parquet)["Year"].tolist() == [2017, 2021]
    assert pd.read_parquet(parquet)["Seeds"].tolist() == ["2", "3"]
    assert "| DDGAN [1] | 2021 | 3 |" in text.read_text() and "1. a note" in text.read_text()
    assert "DDGAN {[}1]" in tex.read_text() and "{[}1] & a note" in tex.read_text()


def test_long_lists_are_printed_whole_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"cell[{k}]", None, "ok"] for k in range(printing.FRAMED + 1)]
    printing.table(["Cell", "Reason", "State"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(rows) + 1 and lines[1].split() == ["cell[0]", "ok"] and lines[-1].split() == [f"cell[{printing.FRAMED}]", "ok"]
    assert {line.index("ok") for line in lines[1:]} == {lines[0].index("State")}
