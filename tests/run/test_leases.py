"""One holder at a time, that lives: between threads, processes and machines, whatever the wall clock does."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from bench.harness.run import leases
from bench.harness.run.leases import Leases, birth, machine
from bench.values import UserError


def test_one_holder_until_it_gives_back(tmp_path: Path) -> None:
    ours, theirs = Leases(tmp_path), Leases(tmp_path)
    assert ours.take("cell") and ours.take("cell")  # again is no harm
    assert not theirs.take("cell") and theirs.take("other")
    theirs.release("cell")  # is not theirs to give
    assert not theirs.take("cell")
    ours.release("cell")
    assert theirs.take("cell") and not ours.take("cell")
    theirs.close()
    assert ours.take("cell") and ours.take("other")
    ours.close()
    assert list(tmp_path.glob("*.lease")) == []


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    """The lease of a process that was killed is free at once."""
    process = multiprocessing.get_context("spawn").Process(target=take_and_wait, args=(tmp_path,))
    process.start()
    mine = Leases(tmp_path)
    wait_for(tmp_path / "cell.lease")
    assert not mine.take("cell")
    process.kill()
    process.join()
    assert mine.take("cell")
    mine.close()


def take_and_wait(folder: Path) -> None:
    Leases(folder).take("cell")
    time.sleep(60)


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_process_number_used_again_is_another_process(tmp_path: Path) -> None:
    holder = {"token": "x", "machine": machine(), "pid": os.getpid(), "born": "1", "beat": 0}
    (tmp_path / "cell.lease").write_text(json.dumps(holder))
    mine = Leases(tmp_path)
    assert mine.take("cell")
    mine.close()


def test_another_machine_holds_while_its_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from afar only the heartbeat counts, by the observer's monotonic clock: the wall clock may jump as it likes."""
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(leases.time, "time", lambda: pytest.fail("the wall clock was asked"))
    mine, path = Leases(tmp_path, stale_s=60.0), tmp_path / "cell.lease"

    def beat(number: int) -> None:
        path.write_text(json.dumps({"token": "far", "machine": "elsewhere", "pid": 1, "born": "1", "beat": number}))

    beat(0)
    assert not mine.take("cell")
    now[0] += 59
    assert not mine.take("cell")
    beat(1)
    now[0] += 59
    assert not mine.take("cell")  # it has beaten since
    now[0] += 59
    assert not mine.take("cell")
    now[0] += 2
    assert mine.take("cell")
    mine.close()


def test_the_heart_beats_and_stops_when_another_took_over(tmp_path: Path) -> None:
    mine, path = Leases(tmp_path, beat_s=0.02), tmp_path / "cell.lease"
    assert mine.take("cell")
    end = time.monotonic() + 30
    while json.loads(path.read_bytes())["beat"] < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    taken = {"token": "far", "machine": "elsewhere", "pid": 1, "born": "1", "beat": 0}
    with leases.locked(tmp_path):
        path.write_text(json.dumps(taken))
    time.sleep(0.2)
    assert json.loads(path.read_bytes()) == taken
    mine.close()
    assert json.loads(path.read_bytes()) == taken


def test_a_damaged_lease_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "cell.lease").write_bytes(b'{"token": "x"')
    mine = Leases(tmp_path)
    assert mine.take("cell")
    mine.close()


def test_of_many_that_ask_at_once_one_gets_it(tmp_path: Path) -> None:
    """Also where they all find the lease of a dead process."""
    (tmp_path / "cell.lease").write_text(json.dumps({"token": "x", "machine": machine(), "pid": 2**22 + 1, "born": "1", "beat": 0}))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    asking = [context.Process(target=ask, args=(tmp_path, answers)) for _ in range(8)]
    for process in asking:
        process.start()
    got = [answers.get(timeout=60) for _ in asking]
    for process in asking:
        process.kill()
    assert sum(got) == 1


def ask(folder: Path, answers: "multiprocessing.Queue[bool]") -> None:
    mine = Leases(folder)
    answers.put(mine.take("cell"))
    time.sleep(60)


def test_birth_of_no_process() -> None:
    assert birth(os.getpid()) and birth(2**22 + 1) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        Leases(tmp_path / "file" / "leases").take("cell")
