"""Values refuse what would later read as a number that nobody measured."""

import dataclasses

import pytest

from bench.measures import Measure, measured, missing
from bench.values import configuration


@pytest.mark.parametrize("fields", [{}, {"value": 1.0, "reason": "x"}, {"reason": ""}, {"value": float("nan")}, {"value": float("inf")}])
def test_measure_has_a_value_or_a_reason(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="measure"):
        Measure(**fields)  # type: ignore[arg-type]


def test_not_finite_becomes_a_reason() -> None:
    assert measured(float("nan")).value is None and "nan" in (measured(float("nan")).reason or "")
    assert missing("because").reason == "because"


def test_cell_id_follows_content_and_not_display(records) -> None:  # type: ignore[no-untyped-def]
    cell = records[0].cell
    assert dataclasses.replace(cell, shown={}).id == cell.id
    for change in (
        {"seed": cell.seed + 1},
        {"params": {"steps": 999}},
        {"code_hash": "0"},
        {"reference_hash": "0"},
        {"protocol": cell.protocol + 1},
        {"asset_ids": {"denoiser": "0"}},
        {"extractors": ("own", "x")},
        {"budget": dataclasses.replace(cell.budget, n_samples=7)},
        {"workload": dataclasses.replace(cell.workload, version=2)},
    ):
        assert dataclasses.replace(cell, **change).id != cell.id, change


def test_configuration_is_sorted() -> None:
    assert configuration("a.b", {"z": 1, "a": 2}) == "a.b[a=2, z=1]"
    assert configuration("a.b", {}) == "a.b"
