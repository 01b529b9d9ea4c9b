"""Taking in parcels, whatever they hold: finished records stay, damaged files are refused by name, and nothing leaves its place."""

import dataclasses
import gzip
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from bench.measures import TrainCost
from bench.offline.merge import Fate, merge
from bench.offline.parcels import PARCEL_BYTES
from bench.records.store import Store, dump, write_atomic
from bench.values import Status, UserError
from tests.made_records import made_record, made_train
from tests.parcels import PLACE, checkpoint, parcel, record_file, tree

ASSET = f"assets/{'a' * 16}"


# --- what goes in ---


def test_ok_records_are_never_replaced_and_merging_again_changes_nothing(tmp_path: Path) -> None:
    ours = made_record("eds.representation.ddim", steps=5, quality=1.0)
    theirs = dataclasses.replace(ours, scores=made_record("eds.representation.ddim", steps=5, quality=9.0).scores)
    fresh = made_record("eds.state_space.ddpm", steps=5, quality=2.0)
    retried = made_record("eps.noise.ddgm", steps=5, quality=3.0)
    home = tmp_path / "home"
    store = Store(home / PLACE)
    store.write(ours)
    store.write(dataclasses.replace(retried, status=Status.KILLED, reason="signal 9"))
    assert theirs.cell.id == ours.cell.id and theirs != ours
    file = parcel(tmp_path / "p.tar.gz", *map(record_file, (theirs, fresh, retried)))
    assert Counter(v.fate for v in merge([file], home)) == {Fate.KEPT: 1, Fate.TAKEN: 2}
    assert {r.cell.id: r for r in store.records()} == {r.cell.id: r for r in (ours, fresh, retried)}
    before = tree(home)
    failed = dataclasses.replace(ours, status=Status.FAILED, reason="there")
    again = merge([file, parcel(tmp_path / "q.tar.gz", record_file(failed))], home)
    assert {v.fate for v in again} == {Fate.KEPT} and tree(home) == before


def test_a_damaged_record_at_home_makes_way(tmp_path: Path) -> None:
    name, content = record_file(made_record("eds.state_space.ddpm", steps=5, quality=2.0))
    write_atomic(tmp_path / "home" / name, content[:300])
    assert [v.fate for v in merge([parcel(tmp_path / "p.tar.gz", (name, content))], tmp_path / "home")] == [Fate.TAKEN]
    assert tree(tmp_path / "home") == {name: content}


COST = dump(TrainCost, made_train(1.0))
WEIGHTS = checkpoint(100)
NEWER = json.dumps({"schema_version": 99}).encode()
DAMAGED = {
    "truncated": (lambda name, raw: [(name, raw[:400])], "unreadable record"),
    "another cell's": (lambda name, raw: [(name.replace(name[-21:-5], "0" * 16), raw)], "is of cell"),
    "newer": (lambda name, raw: [(name, NEWER)], "schema 99"),
    "plan": (lambda name, raw: [(f"{PLACE}/plan.json", b"[{}]")], "unreadable file plan.json"),
    "half a checkpoint": (lambda name, raw: [(f"{ASSET}/asset.json", COST)], "other half"),
    "cut weights": (lambda name, raw: [(f"{ASSET}/asset.json", COST), (f"{ASSET}/model.safetensors", WEIGHTS[:-9])], "checkpoint model"),
    "no cost": (lambda name, raw: [(f"{ASSET}/asset.json", b"{}"), (f"{ASSET}/model.safetensors", WEIGHTS)], "unreadable file asset.json"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_by_name_and_the_rest_goes_in(case: str, tmp_path: Path) -> None:
    damage, why = DAMAGED[case]
    good = record_file(made_record("eds.representation.ddim", steps=5, quality=1.0))
    bad = damage(*record_file(made_record("eds.state_space.ddpm", steps=5, quality=2.0)))
    verdicts = merge([parcel(tmp_path / "p.tar.gz", *bad, good)], tmp_path / "home")
    assert {v.name: v.fate for v in verdicts} == {good[0]: Fate.TAKEN, **{name: Fate.REFUSED for name, _ in bad}}
    assert all(why in str(v) and str(v.name) in str(v) and "\n" not in str(v) for v in verdicts if v.fate is Fate.REFUSED)
    assert tree(tmp_path / "home") == dict([good])


def test_no_room_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder is wanted")
    with pytest.raises(UserError, match="cannot write"):
        merge([parcel(tmp_path / "p.tar.gz", record_file(made_record("eds.state_space.ddpm", steps=1, quality=1.0)))], tmp_path / "home")


# --- what stays out ---


def special(kind: bytes, name: str = f"{PLACE}/records/{'1' * 16}.json", target: str = "/etc/passwd", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def sparse() -> tarfile.TarInfo:
    """Ten megabytes of zeros, said in a few bytes (the sparse format 1.0 of pax headers): a thousand such are ten gigabytes."""
    info = tarfile.TarInfo(f"{PLACE}/samples/{'1' * 16}.png")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**7)}
    return info


HOSTILE = {
    "absolute": ("/tmp/evil.json", b"{}"),
    "absolute place": (f"/{PLACE}/plan.json", b"[]"),
    "parent": (f"{PLACE}/records/../../../../evil.json", b"{}"),
    "parent as a suite": (f"../cpu/records/{'1' * 16}.json", b"{}"),
    "parent as a device": (f"tiny/../records/{'1' * 16}.json", b"{}"),
    "another place": (f"{PLACE}/notes.txt", b"x"),
    "script": ("bench/__init__.py", b"x"),
    "hidden": (f".git/hooks/records/{'1' * 16}.json", b"x"),
    "line break": (f"{PLACE}/records/{'1' * 16}.json\n", b"x"),
    "store among the assets": (f"assets/cpu/records/{'1' * 16}.json", b"x"),
    "pickle": (f"{ASSET}/model.pkl", b"x"),
    "symbolic link": (special(tarfile.SYMTYPE), b""),
    "hard link": (special(tarfile.LNKTYPE), b""),
    "character device": (special(tarfile.CHRTYPE), b""),
    "block device": (special(tarfile.BLKTYPE), b""),
    "pipe": (special(tarfile.FIFOTYPE), b""),
    "folder": (special(tarfile.DIRTYPE, PLACE), b""),
    "folder at a record's place": (special(tarfile.DIRTYPE), b""),
    "sparse": (sparse(), b"1\n0\n512\n".ljust(1024, b"\0")),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_member_keeps_all_parcels_out(case: str, tmp_path: Path) -> None:
    good = [record_file(made_record("eds.representation.ddim", steps=k, quality=1.0)) for k in range(3)]
    files = [parcel(tmp_path / "a.tar.gz", good[0]), parcel(tmp_path / "b.tar.gz", good[1], HOSTILE[case], good[2])]
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"b\.tar\.gz (holds|is no parcel)"):
        merge(files, tmp_path / "home" / "results")
    assert tree(tmp_path) == before and not (tmp_path / "home").exists() and not Path("/tmp/evil.json").exists()


def test_twice_the_same_name_is_refused(tmp_path: Path) -> None:
    one = record_file(made_record("eds.representation.ddim", steps=1, quality=1.0))
    with pytest.raises(UserError, match="twice"):
        merge([parcel(tmp_path / "p.tar.gz", one, one)], tmp_path / "home")


def test_a_member_that_declares_more_than_a_parcel_holds(tmp_path: Path) -> None:
    header = special(tarfile.REGTYPE, size=PARCEL_BYTES + 1).tobuf()
    (tmp_path / "p.tar.gz").write_bytes(gzip.compress(header + bytes(10240)))
    with pytest.raises(UserError, match="declares 16,000,001 bytes"):
        merge([tmp_path / "p.tar.gz"], tmp_path / "home")


def test_a_parcel_that_unpacks_to_too_much(tmp_path: Path) -> None:
    (tmp_path / "p.tar.gz").write_bytes(gzip.compress(bytes(PARCEL_BYTES + 1)))
    assert (tmp_path / "p.tar.gz").stat().st_size < 20_000
    with pytest.raises(UserError, match="unpacks to more than 16,000,000 bytes"):
        merge([tmp_path / "p.tar.gz"], tmp_path / "home")


def test_every_cut_and_every_flip_of_a_parcel_is_noticed(tmp_path: Path) -> None:
    whole = parcel(tmp_path / "p.tar.gz", record_file(made_record("eds.representation.ddim", steps=1, quality=1.0))).read_bytes()
    for k in range(0, len(whole) - 1, 37):
        for broken in (whole[:k], whole[:k] + bytes([whole[k] ^ 64]) + whole[k + 1 :]):
            (tmp_path / "p.tar.gz").write_bytes(broken)
            with pytest.raises(UserError, match="is no parcel, or damaged"):
                merge([tmp_path / "p.tar.gz"], tmp_path / "home")
    assert not (tmp_path / "home").exists()
