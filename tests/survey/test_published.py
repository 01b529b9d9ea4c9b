"""The published reference records are whole, and what they show on the digits is what the suite promises."""

from pathlib import Path

import pytest

from bench.records.store import PUBLISHED, Store
from bench.report.leaderboard.board import Leaderboard, board, latest
from bench.values import Record, Status

ROOT = Path(__file__).parents[2] / PUBLISHED
STORES = [Store(path.parent) for path in sorted(ROOT.glob("*/*/records"))]
DIGITS = [store for store in STORES if store.folder.parent.name == "digits"]


@pytest.mark.parametrize("store", STORES, ids=lambda s: "/".join(s.folder.parts[-2:]))
def test_records_are_readable_and_empty_cells_have_reasons(store: Store) -> None:
    records = list(store.records())
    assert records
    text = board(records).text()
    assert not text.isin(["", "None", "nan"]).any().any()
    for record in records:
        assert record.samples_png is None or (store.folder / record.samples_png).is_file()


def quality(rows: Leaderboard, configuration: str) -> float:
    return float(rows.values.loc[rows.info["configuration"] == configuration, "fd_digits"].iloc[0])


@pytest.fixture(params=DIGITS, ids=lambda s: s.folder.name)
def digits(request: pytest.FixtureRequest) -> list[Record]:
    return [r for r in latest(request.param.records()) if r.status is Status.OK]


def test_digits_numbers_mean_something(digits: list[Record]) -> None:
    """All at most a fifth of the floor; DDIM-50 at most 2.5 halves; labels obeyed; LDM cheaper; ten steps better than four."""
    rows = board(digits)
    floor = quality(rows, "control.gaussian")
    for name, heading, value in zip(rows.info["configuration"], rows.info["heading"], rows.values["fd_digits"], strict=True):
        assert heading == "control" or value <= floor / 5, f"{name}: {value:.3g} against the floor's {floor:.3g}"
    halves = digits[0].scores["halves_digits"].value
    assert halves is not None
    assert quality(rows, "eds.representation.ddim[steps=50]") <= 2.5 * halves
    by_name = rows.values.set_index(rows.info["configuration"])
    assert by_name.loc["eds.representation.ddim[steps=50]", "class_accuracy"] >= 0.9
    assert by_name.loc["eds.representation.ldm[steps=50]", "gflop"] < by_name.loc["eds.representation.ddim[steps=50]", "gflop"]
    assert quality(rows, "eps.training.analytic_ddim[steps=10]") < quality(rows, "eds.representation.ddim[steps=4]")
