"""A run that is harmed at random moments and started again loses no finished cell, accepts no wrong one, and ends with the same table.

20 seeded faults; BENCH_FAULTS=200 for more (`tox run -e faults`).
"""

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import TINY_SUITE, Run
from tests.faults.harm import HARMS, Harm, truncate
from tests.processes import Running, warm

COUNT = int(os.environ.get("BENCH_FAULTS", "20"))
CHAIN = 5  # faults that one store suffers
SUITE = TINY_SUITE.replace("{ steps = 4 }", "{ steps = 4 }, { steps = 3 }, { steps = 5 }, { steps = 6 }")
COMMAND = ("run", "tiny.toml", "--device", "cpu")


def finished(results: Path) -> dict[str, bytes]:
    """The content of every readable OK record."""
    found = {}
    for path in results.glob("local/tiny/*/records/*.json"):
        content = path.read_bytes()
        try:
            if json.loads(content)["status"] == "ok":
                found[path.stem] = content
        except ValueError:
            continue
    return found


def scores(results: Path) -> dict[str, dict[str, object]]:
    """What a cell says apart from time, energy and memory."""
    said = {}
    for cell, content in finished(results).items():
        record = json.loads(content)
        counts = {k: record["sample"][k] for k in ("steps", "nfe_per_image", "calls_per_image", "flops_per_image", "params")}
        said[cell] = {"cell": record["cell"], "scores": record["scores"], **counts}
    return said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, object]], float]:
    """The scores of a run that nothing happened to, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.toml").write_text(SUITE)
    warm()
    begin = time.monotonic()
    run = Running(folder, *COMMAND)
    assert run.ends() == 0, run.out + run.err
    found = scores(folder / "results")
    assert len(found) == 6
    return found, time.monotonic() - begin


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(0, COUNT, CHAIN))
def test_faults(tmp_path: Path, first: int, undisturbed: tuple[dict[str, dict[str, object]], float]) -> None:
    wanted, took = undisturbed
    (tmp_path / "tiny.toml").write_text(SUITE)
    hit = []
    for seed in range(first, min(first + CHAIN, COUNT)):
        rng = random.Random(seed)
        hit.append(suffer(tmp_path, HARMS[seed % len(HARMS)], rng, delay=rng.uniform(0.02, 0.35) * took))
    assert hit[0]  # the others may find a store where little is left to do
    last = Running(tmp_path, *COMMAND)
    assert last.ends() == 0, last.out + last.err
    assert scores(tmp_path / "results") == wanted


def suffer(folder: Path, harm: Harm, rng: random.Random, delay: float) -> bool:
    """One run, harmed after a delay: what was finished before is finished after, except for a record that was itself cut off.

    True where the harm met the run under way.
    """
    before = finished(folder / "results")
    run = Running(folder, *COMMAND)
    time.sleep(delay)
    alive, under_way = finished(folder / "results"), run.alive
    harm(rng, run.pid, folder / "results")
    run.ends()
    assert "Traceback" not in run.err, run.err
    after = finished(folder / "results")
    lost = (before | alive).keys() - after.keys()
    assert len(lost) <= (1 if harm is truncate else 0)
    assert all(after[cell] == content for cell, content in (before | alive).items() if cell in after)
    return under_way


def test_no_room(bench: Run, tmp_path: Path) -> None:
    """A disk of one megabyte that fills up: one line, no traceback, nothing finished is lost, and with room it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    (tmp_path / "tiny.toml").write_text(SUITE)
    try:
        (disk / "ballast").write_bytes(bytes(900_000))
        full = bench("run", "tiny.toml", "--device", "cpu", "--results", disk, check=(1, 2))
        assert full.stderr.strip().splitlines()[-1].startswith("bench: cannot write") and "Traceback" not in full.stderr
        assert [path for path in disk.rglob(".*") if path.is_file() and path.name != ".lock"] == []  # nothing half written stays
        (disk / "ballast").unlink()
        bench("run", "tiny.toml", "--device", "cpu", "--results", disk, check=(0, 2))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_is_read_only(bench: Run, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)], capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a read-only disk")
    try:
        (tmp_path / "tiny.toml").write_text(SUITE)
        said = bench("run", "tiny.toml", "--device", "cpu", "--results", disk, check=(2,)).stderr.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("bench: cannot write") and "Read-only" in said[0]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
