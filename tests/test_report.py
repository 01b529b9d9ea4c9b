"""Reports from records alone: complete, escaped, honest about what is empty."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from bench.harness.store import Store
from bench.measures import missing
from bench.report.claims import Verdict, audit
from bench.report.frame import board, latest, number
from bench.report.page import write
from bench.report.plots import pareto
from bench.report.tables import table_three
from bench.values import Record, UserError
from tests.records import made_record


@pytest.fixture
def store(tmp_path: Path, records: list[Record]) -> Store:
    store = Store(tmp_path / "digits" / "cpu")
    for record in records:
        store.write(record)
    return store


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
    new = dataclasses.replace(
        new,
        cell=dataclasses.replace(new.cell, code_hash="edited", params={**new.cell.params, "codes": 64}),  # a default has changed too
        provenance=dataclasses.replace(new.provenance, started="2026-02-01T00:00:00+00:00"),
    )
    other_seed = made_record("eds.representation.ddim", steps=5, quality=3.0, seed=1)
    assert latest([new, old, other_seed]) in ([other_seed, new], [new, other_seed])


def test_report_is_written_without_torch(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom bench.harness.store import Store\nfrom bench.report.page import write\n"
        f"write('digits', [Store(Path({str(store.folder)!r}))], Path({str(tmp_path / 'out')!r}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"index.html", "leaderboard.csv", "leaderboard.md", "quality_against_cost.png", "quality_against_cost.svg"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    assert table["fd_digits"].iloc[0] == 1.0 and table["fid_reason"].iloc[0] == "weights not found"


def test_two_devices_share_no_figure_and_no_row(tmp_path: Path) -> None:
    store = Store(tmp_path / "s" / "d")
    for device, quality in (("CPU test", 1.0), ("GPU test", 2.0)):
        record = made_record("eds.representation.ddim", steps=5, quality=quality, device=device)
        store.write(dataclasses.replace(record, cell=dataclasses.replace(record.cell, code_hash=device)))
    written = write("digits", [store], tmp_path / "out")
    pictures = {p.name for p in written.files if p.suffix == ".png"}
    assert pictures == {"quality_against_cost-cpu-test.png", "quality_against_cost-gpu-test.png"}
    assert list(table_three(written.boards["generate"])[1]["Model"]) == [
        f"eds.representation.ddim[steps=5] on {d}" for d in ("CPU test", "GPU test")
    ]


def test_unmeasured_training_time_is_no_zero(records: list[Record]) -> None:
    train = records[0].train
    assert train is not None
    unknown = dataclasses.replace(records[0], train=dataclasses.replace(train, device_s=missing("not measured: a test")))
    rows = board([unknown])
    assert pd.isna(rows.values["train_s"].iloc[0])
    assert rows.reasons["train_s"].iloc[0] == "not measured: a test"


def test_text_from_records_is_escaped(tmp_path: Path, records: list[Record]) -> None:
    evil = "<script>alert(1)</script>|"
    store = Store(tmp_path / "s" / "d")
    card = dataclasses.replace(records[0].card, title=evil)
    cell = dataclasses.replace(records[0].cell, strategy=evil)
    store.write(dataclasses.replace(records[0], card=card, cell=cell))
    write("digits", [store], tmp_path / "out")
    assert "<script>" not in (tmp_path / "out" / "index.html").read_text()
    markdown = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "<script>" not in markdown and "\\|" in markdown


def test_no_records_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records"):
        write("digits", [], tmp_path)


def test_table_three_has_the_surveys_columns(records: list[Record]) -> None:
    first, second = table_three(board(records))
    assert [c for c in first.columns if not c.startswith("FD ")] == ["Model", "Year", "FID", "Steps", "Parameters (M)"]
    assert list(second.columns) == ["Model", "FLOPs (G)", "Parameters (M)", "Inference time (s)"]
    assert (first["FID"] == "weights not found").all() and len(first) == 2


def pair(ours: float, seed: int) -> list[Record]:
    """Our record and its baseline's, which has quality 2."""
    return [
        made_record("eds.representation.ddim", steps=50, quality=ours, seed=seed),
        made_record("eds.state_space.ddpm", steps=50, quality=2.0, seed=seed),
    ]


def test_claims_hold_fail_and_wait() -> None:
    def verdict(*records: Record) -> tuple[Verdict, str]:
        (found,) = audit(list(records))
        return found.verdict, found.why

    assert verdict(*pair(1.0, 0), *pair(1.5, 1)) == (Verdict.REPRODUCED, "2 of 2 pairs over 2 seeds")
    assert verdict(*pair(3.0, 0), *pair(2.5, 1)) == (Verdict.NOT_REPRODUCED, "0 of 2 pairs over 2 seeds")
    assert verdict(*pair(3.0, 0), *pair(1.0, 1)) == (Verdict.INCONCLUSIVE, "1 of 2 pairs over 2 seeds")
    assert verdict(*pair(1.0, 0)) == (Verdict.INCONCLUSIVE, "1 of 1 pairs over 1 seed; 2 seeds are needed")
    assert verdict(pair(1.0, 0)[0])[0] is Verdict.INCONCLUSIVE


def test_counted_claims_need_one_seed() -> None:
    ours, baseline = pair(1.0, 0)
    claim = dataclasses.replace(ours.card.claims[0], metric="flops_per_image")
    ours = dataclasses.replace(ours, card=dataclasses.replace(ours.card, claims=(claim,)))
    assert audit([ours, baseline])[0].verdict is Verdict.REPRODUCED


def test_pareto_front() -> None:
    assert pareto([1, 2, 3, 4], [5, 3, 4, 1]) == [0, 1, 3]
    assert pareto([1, 1], [2, 1]) == [1]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (1234.5, "1,234"), (0.00012345, "0.000123"), (12.345, "12.3"), (1e7, "1e+07"), (50.0, "50")]
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text
