"""Records on disk: atomic, checked, lossless; a damaged one never counts as done and never stops the rest."""

import json
from pathlib import Path

import pytest

from bench.records.store import (
    RECORD,
    Store,
    dump,
    planned_states,
    published_strategies,
    read_outcome,
    read_record,
    slug,
    stores,
    write_atomic,
)
from bench.values import Cell, Record, UserError


@pytest.fixture
def store(tmp_path: Path, records: list[Record]) -> Store:
    store = Store(tmp_path / "digits" / "cpu")
    for record in records:
        store.write(record)
    return store


def test_round_trip_is_lossless(store: Store, records: list[Record]) -> None:
    back = {r.cell.id: r for r in store.records()}
    assert back == {r.cell.id: r for r in records}


def test_only_ok_records_are_finished(store: Store, records: list[Record]) -> None:
    assert store.finished() == {r.cell.id for r in records[:2]}


def test_every_truncation_is_refused(store: Store, records: list[Record]) -> None:
    path = store.record_path(records[0].cell.id)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=path.name):
            read_record(path)
    assert store.finished() == {records[1].cell.id}
    assert path.with_suffix(".unreadable").exists() and not path.exists()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("sample", "steps", "value"), "many"),
        (("sample", "steps", "value"), None),
        (("status",), "fine"),
        (("cell", "seed"), None),
        (("schema_version",), 99),
    ],
)
def test_wrong_fields_are_refused(store: Store, records: list[Record], where: tuple[str, ...], value: object) -> None:
    path = store.record_path(records[0].cell.id)
    raw = json.loads(path.read_bytes())
    inner = raw
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError):
        read_record(path)


def test_newer_schema_is_left_alone(store: Store, records: list[Record]) -> None:
    path = store.record_path(records[0].cell.id)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema_version": 99}))
    with pytest.raises(UserError, match="schema 99"):
        store.finished()
    assert path.exists()


def test_outcomes_say_what_whole_records_say(store: Store) -> None:
    whole = [(r.cell, r.status, r.reason) for r in store.records()]
    assert [(o.cell, o.status, o.reason) for o in store.outcomes()] == whole and len(whole) == 3


def test_outcomes_of_damaged_and_of_newer_records_are_refused(store: Store, records: list[Record]) -> None:
    path = store.record_path(records[0].cell.id)
    raw = path.read_bytes()
    for length in range(0, len(raw) - 1, 97):
        path.write_bytes(raw[:length])
        with pytest.raises(UserError, match=path.name):
            read_outcome(path)
    path.write_text(json.dumps({"schema_version": 99}))  # without the fields that this version wants
    for read in (read_outcome, read_record):
        with pytest.raises(UserError, match="schema 99"):
            read(path)


def test_states_of_a_plan(store: Store, records: list[Record]) -> None:
    cells = [r.cell for r in records]
    store.record_path(cells[1].id).unlink()
    (store.folder / "plan.json").write_bytes(dump(list[Cell], cells))
    assert [(s["state"], s["reason"]) for s in planned_states(store.folder.parents[1], "digits")] == [
        ("ok", None),
        ("to do", None),
        ("timeout", records[2].reason),
    ]


def test_numbers_keep_every_digit(records: list[Record]) -> None:
    again = RECORD.validate_json(RECORD.dump_json(records[0]))
    assert again.sample == records[0].sample


def test_write_leaves_nothing_beside(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b.json", b"1")
    write_atomic(tmp_path / "a" / "b.json", b"2")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.json"] and (tmp_path / "a" / "b.json").read_bytes() == b"2"


def test_stores_and_published_strategies(store: Store, tmp_path: Path) -> None:
    assert stores(tmp_path, "digits") == [store] and stores(tmp_path, "other") == []
    assert published_strategies(tmp_path) == {"eds.representation.ddim", "eds.state_space.ddpm"}


def test_slug() -> None:
    assert slug("CPU AMD EPYC, 2 cores") == "cpu-amd-epyc-2-cores"
