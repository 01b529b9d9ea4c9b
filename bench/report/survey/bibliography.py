"""The cited papers as BibTeX: those of the survey's rows and of the records' cards. No authors are held, so that none are given."""

import re
from collections.abc import Iterable, Iterator

from bench.cards import Card, Heading
from bench.records.store import slug
from bench.survey import rows
from bench.survey.published import SURVEY
from bench.values import Record

SURVEY_TITLE = "Efficient Diffusion Models for Vision: A Survey"
ARXIV = re.compile(r"(\d{2})\d{2}\.\d{4,5}")
TEX = {  # no brace of the text stays one: BibTeX counts even escaped braces
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "#$%&_"},
}


def bibtex(records: Iterable[Record]) -> str:
    """One entry a paper, sorted by key (`arxiv2006.11239`). The year of an arXiv paper is that of its number.

    Where rows and cards give a paper several titles, the longest stands: the others shorten it.
    """
    entries: dict[str, tuple[str, str]] = {}
    for title, arxiv, year in sorted({*_of_survey(), *_of_cards(record.card for record in records)}, key=lambda t: (-len(t[0]), t)):
        number = ARXIV.fullmatch(arxiv)
        key = f"arxiv{arxiv}" if number else f"paper-{slug(title)}"
        fields = [("title", f"{{{escaped(title)}}}"), ("year", f"20{number[1]}" if number else year)]
        if number:
            fields += [("eprint", arxiv), ("archivePrefix", "arXiv")]
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields)
        entries.setdefault(key, (key, f"@misc{{{key},\n{body}}}\n"))
    return "\n".join(text for _, text in sorted(entries.values()))


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is, on one line, without a brace that a reader of BibTeX could count."""
    return "".join(TEX.get(sign, sign) for sign in " ".join(text.split()))


def _of_survey() -> Iterator[tuple[str, str, str]]:
    """(title, arXiv number, year) of the survey and of every paper that its rows name; a row of several papers has as many titles."""
    yield SURVEY_TITLE, SURVEY, ""
    for row in rows():
        for title, arxiv in zip(row.paper.split(";"), row.arxiv.split(";"), strict=True):
            if arxiv:
                yield title.strip(), arxiv, ""


def _of_cards(cards: Iterable[Card]) -> Iterator[tuple[str, str, str]]:
    """As `_of_survey`; a card's number is of the first paper that it names, and a control has none."""
    for card in cards:
        if card.heading is not Heading.CONTROL:
            yield card.paper.split(";")[0].strip(), re.sub(r"v\d+$", "", card.arxiv or ""), str(card.year)
