"""Results on their way home: a few parcels of limited size, and nothing dropped without a word."""

import json
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bench.measures import TrainCost
from bench.offline.merge import Fate, merge
from bench.offline.parcels import PARCELS, Kind, distribute, kind_of, pack
from bench.records.store import Store, dump, planned_states, write_atomic
from bench.values import Cell, UserError
from tests.conftest import Run
from tests.made_records import failed_record, made_record, made_train
from tests.parcels import PLACE, checkpoint, parcel, tree

LIMIT = 120_000
STAYS = ("reports/", "assets/reference", f"assets/{'c' * 16}")  # a report, a cache, and a checkpoint whose training was cut off
TOO_BIG = (f"assets/{'b' * 16}/asset.json", f"assets/{'b' * 16}/model.safetensors")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """24 records with samples, a plan, two checkpoints of which one is bigger than a parcel; and what stays at home."""
    root, noise = tmp_path / "there", np.random.default_rng(1)
    store = Store(root / PLACE)
    records = [made_record("eds.representation.ddim", steps=k, quality=float(k)) for k in range(1, 24)]
    records.append(failed_record("eps.training.p2"))
    for record in records:
        store.write(record)
    for name in ("real", *(record.cell.id for record in records)):
        write_atomic(store.sample_path(name), noise.bytes(3000))
    write_atomic(store.folder / "plan.json", dump(list[Cell], [record.cell for record in records]))
    for name, size in (("a", 50_000), ("b", LIMIT)):
        write_atomic(root / "assets" / (name * 16) / "model.safetensors", checkpoint(size))
        write_atomic(root / "assets" / (name * 16) / "asset.json", dump(TrainCost, made_train(1.0)))
    write_atomic(root / "assets" / ("c" * 16) / "model.safetensors", checkpoint(10))
    write_atomic(root / "assets/reference-0123456789abcdef/features.safetensors", b"a cache")
    write_atomic(root / "reports/tiny/index.html", b"a report")
    return root


def test_round_trip_in_small_parcels(results: Path, tmp_path: Path) -> None:
    """What had room arrives byte for byte, what had none is listed, and nothing else travels."""
    packed = pack(results, tmp_path / "out", limit=LIMIT)
    assert 1 < len(packed.files) <= PARCELS
    assert [file.name for file in packed.files] == [f"parcel-{k}.tar.gz" for k in range(1, len(packed.files) + 1)]
    assert all(file.stat().st_size <= LIMIT for file in packed.files)
    assert packed.left_out == {TOO_BIG: sum((results / name).stat().st_size for name in TOO_BIG)}
    assert {v.fate for v in merge(packed.files, tmp_path / "home")} == {Fate.TAKEN}
    sent = {name: content for name, content in tree(results).items() if name not in TOO_BIG and not name.startswith(STAYS)}
    assert tree(tmp_path / "home") == sent and len(sent) == 24 + 25 + 1 + 2
    assert planned_states(tmp_path / "home", "tiny") == planned_states(results, "tiny")


def test_records_come_first(results: Path, tmp_path: Path) -> None:
    """With room for one parcel alone, all records are in it, and samples are what is left out."""
    room = sum(len(content) + 1024 for name, content in tree(results / PLACE).items() if name.endswith(".json"))
    packed = pack(results, tmp_path / "out", limit=room + 20_000, most=1)
    names = {v.name for v in merge(packed.files, tmp_path / "home")}
    assert {name for name in tree(results) if kind_of(name) in (Kind.RECORD, Kind.PLAN)} <= names
    left = {name for whole in packed.left_out for name in whole}
    assert left and {kind_of(name) for name in left} <= {Kind.SAMPLE, Kind.ASSET}
    assert names | left == {name for name in tree(results) if not name.startswith(STAYS)}


def test_same_results_give_same_bytes_and_replace_earlier_parcels(results: Path, tmp_path: Path) -> None:
    assert len(pack(results, tmp_path / "out", limit=LIMIT).files) > 1
    for path in results.rglob("*"):
        os.utime(path, (1, 1))
    pack(results, tmp_path / "again", limit=LIMIT)
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    pack(results, tmp_path / "out")
    assert list(tree(tmp_path / "out")) == ["parcel-1.tar.gz"]  # all in one, and none of the many before beside it


def test_a_parcel_tells_nothing_of_its_machine(results: Path, tmp_path: Path) -> None:
    (file,) = pack(results, tmp_path / "out").files
    assert file.read_bytes()[4:8] == bytes(4)  # gzip's clock (RFC 1952)
    with tarfile.open(file) as tar:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in tar} == {(0, 0, "", "", 0, 0o644)}


def test_nothing_to_pack_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to pack"):
        pack(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("seed", range(50))
def test_distribution_loses_nothing_and_keeps_the_limits(seed: int) -> None:
    draw = random.Random(seed)
    rooms = {(str(k),): draw.randint(1, 100) for k in range(draw.randint(0, 40))}
    room, most = draw.randint(1, 120), draw.randint(1, 8)
    parcels, left = distribute(rooms, room, most)
    assert sorted([*(names for inside in parcels for names in inside), *left]) == sorted(rooms)
    assert len(parcels) <= most and all(0 < sum(rooms[names] for names in inside) <= room for inside in parcels)
    for names in left:  # none that a parcel had room for
        assert rooms[names] > room or len(parcels) == most
        assert all(sum(rooms[other] for other in inside) + rooms[names] > room for inside in parcels)


def test_commands_say_what_became_of_each_file(bench: Run, results: Path, tmp_path: Path) -> None:
    packed = json.loads(bench("pack", "--results", results, "--out", "out", "--json").stdout)
    assert packed == {"parcels": ["out/parcel-1.tar.gz"], "left_out": []}
    first = json.loads(bench("merge", *packed["parcels"], "--results", "home", "--json").stdout)
    assert first["records"] == {"taken": 24, "kept": 0, "refused": 0} and first["checkpoints"]["taken"] == 4
    parcel(tmp_path / "bad.tar.gz", (f"{PLACE}/records/{'1' * 16}.json", b"{"))
    refused = bench("merge", "bad.tar.gz", *packed["parcels"], "--results", "home", check=(1,))
    assert f"refused: {PLACE}/records/{'1' * 16}.json of bad.tar.gz: unreadable record" in refused.stderr
    rows = {words[1]: words[3::2] for line in refused.stdout.splitlines() if len(words := line.split()) == 9}
    assert rows["records"] == ["0", "24", "1"]
    parcel(tmp_path / "evil.tar.gz", ("../evil.json", b"{}"))
    stopped = bench("merge", "evil.tar.gz", "--results", "home", check=(2,))
    assert len(stopped.stderr.strip().splitlines()) == 1 and stopped.stderr.startswith("bench: evil.tar.gz holds")
    assert "is no parcel" in bench("merge", "absent.tar.gz", check=(2,)).stderr


def test_packing_and_merging_load_no_torch() -> None:
    code = "import sys, bench.offline.merge, bench.offline.parcels; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
