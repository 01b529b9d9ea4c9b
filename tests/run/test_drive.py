"""Driving: every job ends once, groups stay together, lost jobs run again, jobs of other runners are waited for."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.harness.run import dispatch as drive
from bench.harness.run.dispatch import TRIES, Claimed, Desk, Drive, Ended
from bench.harness.run.engine import News
from bench.harness.run.messages import CellJob, Done, Job, Lost, Message, Refused, Tick
from bench.values import Status, UserError
from tests.made_records import made_record

OK = Done(Status.OK)
CELL = made_record("eds.representation.ddim", steps=50, quality=1.0).cell


class Script:
    """An engine that tells for each job what a script says, one message a wait, the slots in turn."""

    def __init__(self, slots: int, script: Callable[[Job], list[Message]]) -> None:
        self.slots, self._script = slots, script
        self._told: list[deque[Message]] = [deque() for _ in range(slots)]
        self.begun: list[tuple[int, str]] = []
        self._turn = 0

    def submit(self, slot: int, job: Job, limit_s: float) -> None:
        assert not self._told[slot], "the slot was busy"
        self.begun.append((slot, job.title))
        self._told[slot].extend(self._script(job))

    def wait(self, timeout_s: float) -> News | None:
        for _ in range(self.slots):
            self._turn = (self._turn + 1) % self.slots
            if self._told[self._turn]:
                return News(slot=self._turn, message=self._told[self._turn].popleft())
        pytest.fail("waited for nothing")

    def cancel(self, slot: int) -> None:
        self._told[slot].clear()

    def close(self) -> None: ...


def job(number: int) -> CellJob:
    return CellJob(dataclasses.replace(CELL, seed=number))


@contextmanager
def no_bar(title: str) -> Iterator[Callable[[Tick], None]]:
    yield lambda _tick: None


def desk(claim: Callable[[Job], Claimed] = lambda _job: Claimed.MINE, limit: Callable[[Job], float | None] = lambda _job: 9.0) -> Desk:
    return Desk(claim=claim, limit=limit, bar=no_bar)


def seeds(ended: list[Ended]) -> list[int]:
    return [end.job.cell.seed for end in ended]


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_every_job_ends_once_and_groups_stay_on_their_slot(slots: int) -> None:
    engine = Script(slots, lambda job: [Tick("x", 1, 2)] * (job.cell.seed % 3) + [OK])
    groups = [[job(0), job(1), job(2)], [job(3)], [job(4), job(5)], [job(6)]]
    ended = list(Drive(engine, desk()).over(groups))
    assert sorted(seeds(ended)) == list(range(7)) and all(end.outcome == OK for end in ended)
    where = {title: slot for slot, title in engine.begun}
    for group in groups:
        assert len({where[each.title] for each in group}) == 1
        begun = [title for _, title in engine.begun if title in {each.title for each in group}]
        assert begun == [each.title for each in group]
    if slots == 1:
        assert seeds(ended) == list(range(7))


def test_a_lost_job_runs_again() -> None:
    losses = iter([Lost("node gone"), Lost("node gone"), OK])
    engine = Script(1, lambda job: [next(losses)] if job.cell.seed == 0 else [OK])
    ended = list(Drive(engine, desk()).over([[job(0), job(1)]]))
    assert [(end.job.cell.seed, end.outcome) for end in ended] == [(0, OK), (1, OK)]
    assert len(engine.begun) == 4


def test_a_job_lost_each_time_is_killed() -> None:
    engine = Script(1, lambda job: [Lost("node gone")] if job.cell.seed == 0 else [OK])
    first, second = Drive(engine, desk()).over([[job(0)], [job(1)]])
    assert first.outcome == Done(Status.KILLED, f"lost {TRIES} times: node gone") and second.outcome == OK
    assert len(engine.begun) == TRIES + 1


def test_a_lost_place_is_used_no_more() -> None:
    """The rest of its group moves with the job."""
    lost = iter([Lost("node gone")])
    engine = Script(2, lambda job: [next(lost)] if job.cell.seed == 3 and engine.begun[-1][0] == 1 else [OK])
    ended = list(Drive(engine, desk()).over([[job(0), job(1), job(2)], [job(3), job(4)], [job(5)]]))
    assert sorted(seeds(ended)) == [0, 1, 2, 3, 4, 5] and all(end.outcome == OK for end in ended)
    assert [slot for slot, _ in engine.begun].count(1) == 1


def test_jobs_of_another_runner_are_waited_for_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another holds comes back until it is done there, or ours to do."""
    pauses: list[float] = []
    monkeypatch.setattr(drive.time, "sleep", pauses.append)
    answers = {0: iter([Claimed.HELD] * 4 + [Claimed.DONE]), 1: iter([Claimed.HELD] * 5 + [Claimed.MINE]), 2: iter([Claimed.MINE])}
    engine = Script(1, lambda job: [OK])
    ended = list(Drive(engine, desk(claim=lambda job: next(answers[job.cell.seed]))).over([[job(0)], [job(1)], [job(2)]]))
    assert [(end.job.cell.seed, end.outcome) for end in ended] == [(2, OK), (0, None), (1, OK)]
    assert pauses and set(pauses) == {drive.POLL_S}


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_job_that_needs_others_goes_before_those_after_it(slots: int) -> None:
    """Job 2 needs 0 and 1, job 5 needs 3 and 4: no more is begun of the second three than there are slots with nothing else to do."""
    over: set[int] = set()
    needs = {2: {0, 1}, 5: {3, 4}}

    def claim(job: Job) -> Claimed:
        return Claimed.MINE if needs.get(job.cell.seed, set()) <= over else Claimed.LATER

    engine = Script(slots, lambda job: [Tick("x", 1, 2)] * (job.cell.seed % 3) + [OK])
    begun: list[int] = []
    for ended in Drive(engine, desk(claim=claim)).over([job(number)] for number in range(6)):
        over.add(ended.job.cell.seed)
        begun = [int(title.split()[-1]) for _, title in engine.begun]
    assert over == set(range(6)) and sorted(begun) == list(range(6))
    assert begun == list(range(6)) if slots == 1 else begun.index(2) <= slots + 1 and begun.index(5) == 5


def test_no_time_begins_nothing() -> None:
    engine = Script(1, lambda job: [OK])
    assert seeds(list(Drive(engine, desk(limit=lambda job: 9.0 if job.cell.seed else None)).over([[job(0), job(1)]]))) == [1]


def test_a_fault_of_the_input_ends_all() -> None:
    with pytest.raises(UserError, match="no such file"):
        list(Drive(Script(1, lambda job: [Refused("no such file")]), desk()).over([[job(0)], [job(1)]]))


def test_progress_reaches_the_bar_and_the_bar_ends() -> None:
    seen: list[object] = []

    @contextmanager
    def bar(title: str) -> Iterator[Callable[[Tick], None]]:
        yield seen.append
        seen.append("ended")

    engine = Script(1, lambda job: [Tick("sampling", 1, 2), Done(Status.FAILED, "why")])
    [ended] = Drive(engine, Desk(claim=lambda _: Claimed.MINE, limit=lambda _: 9.0, bar=bar)).over([[job(0)]])
    assert seen == [Tick("sampling", 1, 2), "ended"] and ended.outcome == Done(Status.FAILED, "why") and ended.wall_s >= 0
