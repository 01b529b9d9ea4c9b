"""Reports from records alone: complete, escaped, honest about what is empty."""

import base64
import dataclasses
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from bench.cards import Degradation, Restore
from bench.measures import missing
from bench.records.store import Store
from bench.report.leaderboard.board import board, comparable, latest, number
from bench.report.page.render import breakable, items, noted
from bench.report.page.view import Notes, provenance, rankings, samples
from bench.report.page.write import Report, write
from bench.report.plots.pareto import pareto
from bench.values import Record, UserError
from tests.made_records import failed_record, later, made_record

WHOLE = "timeout: ran past its time limit and was ended"


@pytest.fixture
def store(tmp_path: Path, records: list[Record]) -> Store:
    store = Store(tmp_path / "digits" / "cpu")
    for record in records:
        store.write(record)
    return store


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> Report:
    """Of the same records as `store`, in the same place."""
    store = Store(tmp_path_factory.mktemp("whole") / "digits" / "cpu")
    for record in records:
        store.write(record)
    return write("digits", [store], store.folder / "out")


def test_every_empty_cell_has_its_reason(records: list[Record]) -> None:
    text = board(records).text()
    assert len(text) == 3
    assert not text.isin(["", "None", "nan"]).any().any()
    assert (text["FID"].iloc[:2] == "weights not found").all()
    assert text.iloc[2].str.startswith("timeout: ran past").all()


def test_best_first_and_units(records: list[Record]) -> None:
    rows = board(records)
    assert rows.info["strategy"].iloc[0] == "eds.representation.ddim"
    first = rows.values.iloc[0]
    assert first["gflop"] == pytest.approx(2.0) and first["gmac"] == pytest.approx(1.0)
    assert first["wh"] == pytest.approx(1e-3 * 1000 * 1000 / 500)  # 1e-3 kWh for 500 images
    assert first["train_s"] == pytest.approx(40.5)  # own and inherited
    assert first["p50_ms"] == pytest.approx(50)


def test_seeds_are_averaged_and_devices_kept_apart() -> None:
    name = "eds.representation.ddim"
    same = [made_record(name, steps=5, quality=q, seed=s) for s, q in enumerate((1.0, 3.0))]
    rows = board([*same, made_record(name, steps=5, quality=9.0, device="GPU test")])
    assert sorted(rows.values["fd_digits"]) == [2.0, 9.0] and sorted(rows.info["seeds"]) == [1, 2]
    assert set(rows.info["device"]) == {"CPU test", "GPU test"}


def test_newest_record_of_a_configuration_stands_for_it() -> None:
    old, new = (made_record("eds.representation.ddim", steps=5, quality=q) for q in (1.0, 2.0))
    new = later(new, code_hash="edited", params={**new.cell.params, "codes": 64})  # a default has changed too
    other_seed = made_record("eds.representation.ddim", steps=5, quality=3.0, seed=1)
    assert latest([new, old, other_seed]) in ([other_seed, new], [new, other_seed])


def test_no_table_holds_two_budgets_and_no_row_two_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over seeds, or a claim, would set side by side what was trained differently."""
    name = "eds.representation.ddim"
    first, second = (made_record(name, steps=5, quality=q, seed=s) for s, q in enumerate((1.0, 3.0)))
    edited = later(made_record(name, steps=5, quality=5.0, seed=1), code_hash="edited")
    assert comparable([edited, first]) == [edited]  # one row
    assert comparable([edited, made_record(name, steps=9, quality=1.0)])[1:]  # two
    small = later(made_record("eds.state_space.ddpm", steps=5, quality=9.0), budget=dataclasses.replace(first.cell.budget, width=8))
    other_task = later(second, workload=dataclasses.replace(second.cell.workload, task=Restore(degradation=Degradation.SUPER_2)))
    elsewhere = made_record(name, steps=5, quality=1.0, device="GPU test")
    assert comparable([small, first, second, other_task, elsewhere]) == [elsewhere, small, other_task]
    again = later(small, month=3, budget=first.cell.budget)
    detour = [small, later(first, budget=small.cell.budget)]
    assert comparable([first, second, *detour, again]) == [first, second, again]
    store = Store(tmp_path / "tiny" / "cpu-test")
    for record in (small, first, second):
        store.write(record)
    monkeypatch.setattr("bench.report.plots.draw", lambda *_: [])
    report = write("tiny", [store], tmp_path / "report")
    assert len(report.boards["generate"].info) == 1 and "Left out: 2 older records" in report.html.read_text()


def test_report_is_written_without_torch(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom bench.records.store import Store\nfrom bench.report.page.write import write\n"
        f"write('digits', [Store(Path({str(store.folder)!r}))], Path({str(tmp_path / 'out')!r}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    stems = ("leaderboard", "table-i", "table-ii", "table-iii-top", "table-iii-bottom", "claims")
    assert names >= {f"{stem}.{end}" for stem in stems for end in ("csv", "md", "tex", "parquet")} | {"references.bib", "index.html"}
    assert {p.suffix for p in map(Path, names)} == {".csv", ".md", ".tex", ".parquet", ".bib", ".html", ".png", ".svg"}
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert table["fd_digits"].iloc[0] == 1.0 and table["fid_reason"].iloc[0] == "weights not found"
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(f'href="{name}"' in page for name in names - {"index.html"})
    leads = set(re.findall(r'(?:src|href)="([^"]*)"', page)) - names
    assert len(page) < 3e6 and all(lead.startswith(("#", "data:")) for lead in leads)


def test_same_records_same_bytes(report: Report, store: Store, tmp_path: Path) -> None:
    first, second = report, write("digits", [store], tmp_path / "b")
    assert [p.name for p in first.files] == [p.name for p in second.files] and len(set(first.files)) == len(first.files)
    assert [p.name for x, y in zip(first.files, second.files) if (p := x).read_bytes() != y.read_bytes()] == []


def test_two_devices_share_no_figure_and_no_table(tmp_path: Path) -> None:
    store = Store(tmp_path / "s" / "d")
    for device, quality in (("CPU test", 1.0), ("GPU test", 2.0)):
        record = made_record("eds.representation.ddim", steps=5, quality=quality, device=device)
        store.write(dataclasses.replace(record, cell=dataclasses.replace(record.cell, code_hash=device)))
    written = write("digits", [store], tmp_path / "out")
    fronts = {p.name for p in written.files if p.suffix == ".png" and p.name.startswith("quality_against_cost")}
    assert fronts == {"quality_against_cost-cpu-test.png", "quality_against_cost-gpu-test.png"}
    found = rankings(written.boards, Notes())
    assert [(r.device, len(r.rows)) for r in found] == [("CPU test", 1), ("GPU test", 1)]
    assert set(provenance(list(store.records()))["Device"]) == {"CPU test", "GPU test"}


def test_notes_hold_the_whole_reason_once(records: list[Record]) -> None:
    notes = Notes()
    (ranking,) = rankings({"generate": board(records)}, notes)
    last = ranking.rows[-1]
    assert {cell.text for cell in last.cells} == {"timeout"} and {cell.note for cell in last.cells} == {1 + list(notes.texts).index(WHOLE)}
    assert len(set(notes.texts)) == len(notes.texts) and WHOLE in notes.texts
    fid = [h.title for h in ranking.heads].index("FID")
    assert ranking.rows[0].cells[fid].text == "weights not found" and ranking.rows[0].cells[fid].note == 0
    assert not ranking.heads[fid].main  # a column without a value


def test_long_rankings_say_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.page.view.ROWS", 4)
    many = [made_record("eds.representation.ddim", steps=k, quality=float(k)) for k in range(1, 8)]
    (ranking,) = rankings({"generate": board(many)}, Notes())
    assert ranking.left_out == 3 and [row.cells[0].text for row in ranking.rows] == ["1", "2", "3", "4"]


def test_no_picture_from_outside_the_store(tmp_path: Path, records: list[Record]) -> None:
    store = Store(tmp_path / "s" / "d")
    outside = tmp_path / "s" / "secret.png"
    outside.parent.mkdir()
    Image.new("L", (4, 4)).save(outside)
    name = "eds.representation.ddim[steps=50]"
    shown = {("generate", name)}
    assert samples([dataclasses.replace(records[0], samples_png="../secret.png")], [store], shown) == {}
    (store.folder / "samples").mkdir(parents=True)
    Image.new("L", (4, 4)).save(store.folder / "samples" / "a.png")
    kept = dataclasses.replace(records[0], samples_png="samples/a.png")
    assert [p.caption for p in samples([kept], [store], shown)["generate"]] == [name]
    assert samples([kept], [store], set()) == {}


def test_nothing_but_failures_is_a_report_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "s" / "d")
    store.write(failed_record("eps.training.p2"))
    assert WHOLE in write("digits", [store], tmp_path / "out").html.read_text()


def test_unmeasured_training_time_is_no_zero(records: list[Record]) -> None:
    train = records[0].train
    assert train is not None
    unknown = dataclasses.replace(records[0], train=dataclasses.replace(train, device_s=missing("not measured: a test")))
    rows = board([unknown])
    assert pd.isna(rows.values["train_s"].iloc[0])
    assert rows.reasons["train_s"].iloc[0] == "not measured: a test"


def test_text_from_records_is_escaped(tmp_path: Path, records: list[Record]) -> None:
    evil, worse = "<script>alert(1)</script>|", "</script><img src=x onerror=alert(2)>"
    store = Store(tmp_path / "s" / "d")
    claim = dataclasses.replace(records[0].card.claims[0], text=evil, figure=worse)
    card = dataclasses.replace(records[0].card, title=evil, claims=(claim,))
    cell = dataclasses.replace(records[0].cell, strategy=evil)
    store.write(dataclasses.replace(records[0], card=card, cell=cell))
    store.write(dataclasses.replace(failed_record("eps.training.p2"), card=card, reason=f"{worse}: {evil}"))
    page = write("digits", [store], tmp_path / "out").html.read_text()
    assert "<img src=x" not in page and "alert(1)</script>" not in page
    assert re.findall(r"<script[^>]*>", page) == [
        *(f'<script type="application/octet-stream" id="bundle-{part}">' for part in ("script", "style")),
        '<script type="module">',
    ]
    for text in (tmp_path / "out").glob("*.md"):
        assert "<script" not in text.read_text() and "<img" not in text.read_text()


def test_cells_are_escaped_split_and_linked() -> None:
    assert breakable("a.b_c[<k>=1]") == "a.<wbr>b_<wbr>c<wbr>[&lt;k&gt;=1]"
    assert items("one (2; 3 are needed); two; three (4)") == ["one (2; 3 are needed)", "two", "three (4)"]
    assert noted("[1] [12]", "t") == '<a href="#t-1" aria-label="note 1">[1]</a> <a href="#t-12" aria-label="note 12">[12]</a>'
    assert noted("<b>[1]", "t") == "&lt;b&gt;[1]" and noted("[1]", "") == "[1]"


def test_policy_names_the_pages_own_script(report: Report) -> None:
    page = report.html.read_text()
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39; blob:" in page or f"script-src 'sha256-{digest}' blob:" in page
    assert "unsafe-inline" not in page.split("script-src")[1].split(";")[0]


def test_no_records_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records"):
        write("digits", [], tmp_path)


def test_pareto_front() -> None:
    assert pareto([1, 2, 3, 4], [5, 3, 4, 1]) == [0, 1, 3]
    assert pareto([1, 1], [2, 1]) == [1]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1234.5, "1,234"), (0.00012345, "0.000123"), (12.345, "12.3"), (1e7, "1e+07"), (50.0, "50")]
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text
