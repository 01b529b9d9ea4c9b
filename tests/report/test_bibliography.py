"""References for a paper: they parse, each once, in one order."""

import csv
import dataclasses
import re
from collections.abc import Iterator
from itertools import accumulate

from bench.report.survey.bibliography import bibtex, escaped
from bench.survey import ROWS
from tests.made_records import made_record


def entries(text: str) -> Iterator[tuple[str, str]]:
    """(key, body) of each entry, read by counting braces as BibTeX does: an escaped brace counts."""
    while (start := text.find("@")) >= 0:
        opening = text.index("{", start)
        depths = list(accumulate({"{": 1, "}": -1}.get(sign, 0) for sign in text[opening:]))
        assert 0 in depths, f"never closed: {text[start:]}"
        end = opening + depths.index(0)
        key, _, body = text[opening + 1 : end].partition(",")
        yield key, body
        text = text[end + 1 :]


def test_bibliography_parses_and_names_every_paper_once() -> None:
    found = list(entries(bibtex([made_record("eds.state_space.ddpm", steps=5, quality=1.0)])))
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys))
    assert {
        f"arxiv{number}"
        for r in csv.DictReader(ROWS.read_text(encoding="utf-8").splitlines())
        for number in r["arxiv"].split(";")
        if number
    } <= set(keys)
    ddpm = dict(found)["arxiv2006.11239"]
    for field in (
        "title = {{Denoising Diffusion Probabilistic Models}}",
        "year = {2020}",
        "eprint = {2006.11239}",
        "archivePrefix = {arXiv}",
    ):
        assert field in ddpm
    assert not any("author" in body.lower() for _, body in found)
    assert "paper-a-paper" in keys  # the made card has no arXiv number


def test_bibliography_does_not_hang_on_the_order_and_escapes() -> None:
    made = made_record("eds.state_space.ddpm", steps=5, quality=1.0)
    card = dataclasses.replace(made.card, paper="100 % {of} A_1 & <b>\\end\n~^#$", arxiv="2401.00001v2", year=1)
    evil = dataclasses.replace(made, card=card)
    other = made_record("eds.representation.ddim", steps=5, quality=1.0)
    assert bibtex([evil, other]) == bibtex([other, evil, evil])
    body = dict(entries(bibtex([evil])))["arxiv2401.00001"]
    title = re.search(r"title = \{\{(.*)\}\},", body)
    assert title is not None
    plain = title[1].replace(r"\textbraceleft{}", "").replace(r"\textbraceright{}", "")
    assert re.sub(r"\\text[a-z]+\{\}|\\[%&_#$]", "", plain) == "100  of A1  bend "
    assert "year = {2024}" in body and escaped("plain text: 3-D") == "plain text: 3-D"
