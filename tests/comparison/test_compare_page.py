"""The page of a comparison: both sides' samples, every verdict in words, nothing from outside, nothing that runs."""

import base64
import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bench.measures import Conditions, Measure, measured, missing
from bench.records.store import Store
from bench.report.comparison.matching import matches
from bench.report.comparison.page import BAR, MARKS, Homes, bar, write
from bench.report.comparison.verdicts import Verdict, compare, compare_all
from bench.values import Record, UserError
from tests.made_records import made_record, of_key, with_scores

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"
SMALL = np.linspace(-0.01, 0.01, 20)


class Page(HTMLParser):
    """What a browser would see: tags with attributes, text, and the rows of each table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        self.tables = [[[cell.strip() for cell in row] for row in table] for table in self.tables]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data

    def table(self, head: str) -> list[list[str]]:
        """The first table whose first row starts so."""
        return next(table for table in self.tables if table[0][0] == head)

    @property
    def images(self) -> dict[str, bytes]:
        """Their bytes by alternative text."""
        found = (a for tag, a in self.tags if tag == "img")
        return {str(a["alt"]): base64.b64decode(str(a["src"]).removeprefix("data:image/png;base64,")) for a in found}


def drawn(name: str, quality: float, seed: int = 0, device: str = "CPU test") -> Record:
    record = made_record(name, steps=10, quality=quality, seed=seed, device=device, replicates=tuple(quality * (1 + SMALL)))
    return dataclasses.replace(record, samples_png=f"samples/{record.cell.id}.png")


def put(root: Path, *records: Record) -> Homes:
    """A store a device; each record's picture is its device and label."""
    homes = {}
    for record in records:
        store = Store(root / record.provenance.device)
        store.sample_path("real").parent.mkdir(parents=True, exist_ok=True)
        store.sample_path("real").write_bytes(b"real")
        store.sample_path(record.cell.id).write_bytes(f"{record.provenance.device} {record.cell.label}".encode())
        homes[record.cell.id, record.provenance.device] = store
    return homes


def page_of(records: list[Record], homes: Homes, out: Path, ours: str = "ddim", theirs: str = "ddpm") -> Page:
    pairs = matches(records, ours, theirs)
    found = compare_all([(pair.ours, pair.theirs) for pair in pairs])
    return Page(write("digits", (ours, theirs), list(zip(pairs, found)), homes, out).read_text(encoding="utf-8"))


@pytest.fixture
def duel() -> list[Record]:
    """Two seeds of DDIM, which is worse by far, and DDPM."""
    return [drawn(name, quality, seed) for name, quality in ((DDIM, 2.0), (DDPM, 1.0)) for seed in (0, 1)]


def test_samples_stand_side_by_side_by_seed(tmp_path: Path, duel: list[Record]) -> None:
    page = page_of(duel, put(tmp_path, *duel), tmp_path / "out")
    sides = [("A", f"{DDIM}[steps=10]"), ("B", f"{DDPM}[steps=10]")]
    wanted = {f"samples of {s}, {name}, seed {k}": f"CPU test {name} seed {k}".encode() for k in (0, 1) for s, name in sides}
    assert list(page.images.items()) == [("Real images of the data set", b"real"), *wanted.items()]
    assert "A, seed 1: eds.representation.ddim[steps=10]" in page.words


def test_cells_of_one_id_on_two_devices_show_their_own_samples(tmp_path: Path) -> None:
    records = [drawn(name, 1.0, device=device) for name in (DDIM, DDPM) for device in ("CPU test", "GPU test")]
    homes = put(tmp_path, *records)
    assert len({id_ for id_, _ in homes}) == 2
    shown = [a["src"] for tag, a in page_of(records, homes, tmp_path).tags if tag == "img" and "samples" in str(a["alt"])]
    texts = [base64.b64decode(str(uri).split(",")[1]).decode() for uri in shown]
    assert texts == [f"{d} {n}[steps=10] seed 0" for d in ("CPU test", "GPU test") for n in (DDIM, DDPM)]


def test_every_verdict_is_a_sign_and_a_word(tmp_path: Path, duel: list[Record]) -> None:
    page = page_of(duel, {}, tmp_path)
    head, *rows = page.table("Quantity")
    found = {row[0]: dict(zip(head, row)) for row in rows}
    expected = {c.key: f"{MARKS[c.verdict]} {c.verdict}" for c in compare(duel[:2], duel[2:])}
    assert {key: row["A is"] for key, row in found.items()} == expected
    assert found["fd_digits"]["A is"] == "▼ worse" and found["steps"]["A is"] == "= tie"
    assert found["fd_digits"]["A"] == "2" and found["fd_digits"]["A - B"] == "1" and found["fd_digits"]["Relative"] == "+100 %"
    assert found["fid"]["95 % interval"] == "weights not found" and found["fid"]["A is"] == "? inconclusive"
    assert len(set(MARKS.values())) == len(Verdict)


def test_values_by_seed_and_conditions(tmp_path: Path, duel: list[Record]) -> None:
    second = duel[1]
    state = Conditions(
        clock_mhz=(measured(2600), measured(1300)),
        temperature_c=(missing("no zone"), missing("no zone")),
        throttle=measured(4),
        foreign_processes=measured(0),
        load=(measured(1), measured(2)),
    )
    known = Measure(value=3.0, low=2.5, high=3.5)
    second = with_scores(second, **{**second.scores, "fd_digits": known})
    second = dataclasses.replace(second, provenance=dataclasses.replace(second.provenance, conditions=state))
    page = page_of([duel[0], second, *duel[2:]], {}, tmp_path)
    by_seed = next(t for t in page.tables if t[0][1:] == ["seed 0", "seed 1"])
    values = {row[0]: row[1:] for row in by_seed[2:]}
    assert values["fd_digits"] == ["2", "1", "3 (2.5 to 3.5)", "1"] and values["fid"] == ["weights not found"] * 4
    assert values["latency_p50_s"] == ["0.05"] * 4
    head, *rows = page.table("Record")
    conditions = {row[0]: dict(zip(head[1:], row[1:])) for row in rows}
    assert head[1:] == ["A, seed 0", "B, seed 0", "A, seed 1", "B, seed 1"]
    assert conditions["clock (MHz), before → after"]["A, seed 1"] == "2,600 → 1,300"
    assert conditions["throttled"]["A, seed 1"] == "4" and conditions["temperature (°C)"]["A, seed 1"] == "no zone"
    assert conditions["load"]["A, seed 0"] == "not recorded" and conditions["device"]["B, seed 1"] == "CPU test"


def test_text_stays_text_and_nothing_comes_from_outside(tmp_path: Path, duel: list[Record]) -> None:
    evil = "<script>alert(1)</script>\"'><img src=http://example.org/x>{{ 7 * 7 }}"
    told = {"fd_digits": Measure(value=1.0, replicates=tuple(SMALL)), "fid": missing(evil)}
    ours = with_scores(dataclasses.replace(duel[0], cell=dataclasses.replace(duel[0].cell, strategy=evil)), **told)
    made = dataclasses.replace(ours.provenance, host=evil)
    ours = dataclasses.replace(ours, provenance=made, samples_png=f"samples/{ours.cell.id}.png")
    page = page_of([ours, duel[2]], put(tmp_path, ours, duel[2]), tmp_path, evil)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "a"})
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href", "srcset", "style")]
    assert addresses[0] == "data:," and len(addresses) == 4  # an icon, or a browser would ask for one
    assert all(str(a).startswith("data:image/png;base64,") for a in addresses[1:])
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    text = " ".join(page.words)
    assert "{{ 7 * 7 }}" in text and "<script>alert(1)</script>" in text and "url(" not in text and "@import" not in text
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert str(policy).startswith("default-src 'none'; ") and "http" not in str(policy)


def test_pictures_come_from_the_records_own_store_alone(tmp_path: Path, duel: list[Record]) -> None:
    (tmp_path / "secret.png").write_bytes(b"not for this page")
    ours, theirs = (dataclasses.replace(duel[k], samples_png=path) for k, path in ((0, "../secret.png"), (2, "samples/none.png")))
    page = page_of([ours, theirs], put(tmp_path, ours, theirs), tmp_path / "out")
    assert list(page.images) == ["Real images of the data set"] and page.words.count("No picture in the store.") == 2


def test_written_twice_it_is_the_same(tmp_path: Path, duel: list[Record]) -> None:
    homes = put(tmp_path, *duel)
    for out, records in (("first", duel), ("second", duel[::-1])):
        page_of(records, homes, tmp_path / out)
    first, second = (list((tmp_path / out).iterdir()) for out in ("first", "second"))
    assert [p.name for p in first] == [p.name for p in second] == ["compare-ddim-ddpm.html"]
    assert first[0].read_bytes() == second[0].read_bytes()


def test_a_page_that_cannot_be_written_is_the_users_fault(tmp_path: Path, duel: list[Record]) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cannot write .*compare-ddim-ddpm\.html"):
        page_of(duel, {}, tmp_path / "file")


@pytest.mark.parametrize(
    ("ours", "theirs", "places", "cut"),
    [
        ((1.5, 1.4, 1.6), (1.0, 1.0, 1.0), (0.70, 0.75, 0.80), False),
        ((0.5, 0.5, 0.5), (1.0, 0.8, 1.2), (0.15, 0.25, 0.35), False),
        ((9.0, 8.9, 9.1), (1.0, 0.9, 1.1), (1.0, 1.0, 1.0), True),
    ],
)
def test_a_bar_shows_the_interval_in_parts_of_b(
    ours: tuple[float, ...], theirs: tuple[float, ...], places: tuple[float, ...], cut: bool
) -> None:
    """Of independent values the reach is the root of the sum of squares of each side's."""
    keys = ("value", "low", "high")
    a, b = (
        with_scores(made_record(n, steps=1, quality=1.0), fd_x=Measure(**dict(zip(keys, v)))) for n, v in ((DDIM, ours), (DDPM, theirs))
    )
    found = bar(of_key(compare([a], [b]), "fd_x"))
    assert found is not None and found.cut == cut
    assert (found.low, found.middle, found.high) == pytest.approx([BAR * place for place in places], abs=0.06)
    assert bar(of_key(compare([a], [b]), "latency_p50_s")) is None
