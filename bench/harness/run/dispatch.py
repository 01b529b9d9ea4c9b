"""Driving an engine: jobs to its slots, their news to the display, their ends to the caller, whatever happens to one of them."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from bench.harness.run.engine import Engine, News
from bench.harness.run.messages import Done, Job, Lost, Refused, Tick
from bench.values import Status, UserError

POLL_S = 1.0
TRIES = 3  # of a job whose machine is lost


class Claimed(Enum):
    """What became of the wish to work on a job."""

    MINE = auto()
    HELD = auto()  # by another runner
    LATER = auto()  # it needs what other jobs of this run are still to make
    DONE = auto()  # nothing is left to do


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What is to be known of a job: whether it is ours to do, how many seconds it may take (None: it is not begun), how it is shown."""

    claim: Callable[[Job], Claimed]
    limit: Callable[[Job], float | None]
    bar: Callable[[str], AbstractContextManager[Callable[[Tick], None]]]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job that is over. `outcome` is None where another runner did it."""

    job: Job
    outcome: Done | None
    started: str = ""
    wall_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Running:
    job: Job
    show: Callable[[Tick], None]
    bar: ExitStack
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    begin: float = field(default_factory=time.perf_counter)

    def ended(self, outcome: Done) -> Ended:
        self.bar.close()
        return Ended(job=self.job, outcome=outcome, started=self.started, wall_s=time.perf_counter() - self.begin)


class Drive:
    """Works off jobs. Those of one group stay on one slot, in order, as they share what its worker keeps in memory."""

    def __init__(self, engine: Engine, desk: Desk) -> None:
        self._engine, self._desk = engine, desk
        self._slots = list(range(engine.slots))
        self._running: dict[int, Running] = {}
        self._losses: Counter[str] = Counter()

    def over(self, groups: Iterable[Sequence[Job]]) -> Iterator[Ended]:
        """The ends of all jobs that were begun or found done, as they come. Raises UserError where the input is at fault."""
        queue = deque(deque(group) for group in groups)
        mine: list[deque[Job]] = [deque() for _ in range(self._engine.slots)]
        held: deque[Job] = deque()
        later: deque[Job] = deque()
        while queue or held or later or self._running or any(mine):
            for slot in self._slots:
                yield from self._fill(slot, mine, queue, {Claimed.HELD: held, Claimed.LATER: later})
            if self._running:
                news = self._engine.wait(POLL_S)
                yield from self._heed(news, mine, queue) if news else ()
            elif (held or later) and not queue and not any(mine):
                time.sleep(POLL_S)
            queue.extend(deque([job]) for job in held)  # another runner may be through with them by now, or gone
            queue.extendleft(deque([job]) for job in reversed(later))  # their turn has come: they go before those that follow them
            held.clear()
            later.clear()

    def _fill(self, slot: int, mine: list[deque[Job]], queue: deque[deque[Job]], aside: Mapping[Claimed, deque[Job]]) -> Iterator[Ended]:
        """Give a free slot its next job, if any can be begun."""
        while slot not in self._running and (mine[slot] or queue):
            if not mine[slot]:
                mine[slot] = queue.popleft()
                continue
            job = mine[slot].popleft()
            limit = self._desk.limit(job)
            if limit is None:
                continue
            claim = self._desk.claim(job)
            if claim in aside:
                aside[claim].append(job)
            elif claim is Claimed.DONE:
                yield Ended(job=job, outcome=None)
            else:
                bar = ExitStack()
                self._running[slot] = Running(job=job, show=bar.enter_context(self._desk.bar(job.title)), bar=bar)
                self._engine.submit(slot, job, limit)

    def _heed(self, news: News, mine: list[deque[Job]], queue: deque[deque[Job]]) -> Iterator[Ended]:
        running = self._running[news.slot]
        match news.message:
            case Tick() as tick:
                running.show(tick)
            case Refused(text):
                raise UserError(text)
            case Done() as outcome:
                yield self._running.pop(news.slot).ended(outcome)
            case Lost(reason):
                self._losses[running.job.title] += 1
                lost = self._running.pop(news.slot).ended(Done(Status.KILLED, f"lost {TRIES} times: {reason}"))
                if self._losses[running.job.title] < TRIES:
                    mine[news.slot].appendleft(running.job)
                else:
                    yield lost
                if len(self._slots) > 1:  # the place is gone: what was to happen there happens elsewhere
                    self._slots.remove(news.slot)
                    queue.appendleft(mine[news.slot])
                    mine[news.slot] = deque()
