"""What runs jobs: four calls. Engines are dumb, the store is the truth: a worker writes its cell's record before it says that it is done.

A slot is a place for one job at a time, a device with its worker; jobs that follow each other on a slot meet what the worker has kept.
"""

from dataclasses import dataclass
from typing import Protocol

from bench.harness.run.messages import Job, Message


@dataclass(frozen=True, kw_only=True)
class News:
    """What a slot has to tell. After `Done`, `Refused` or `Lost` it is free."""

    slot: int
    message: Message


class Engine(Protocol):
    """`slots` jobs at a time."""

    @property
    def slots(self) -> int: ...

    def submit(self, slot: int, job: Job, limit_s: float) -> None:
        """Begin a job on a free slot. It is ended after `limit_s` seconds, and told as `Done(TIMEOUT)`."""

    def wait(self, timeout_s: float) -> News | None:
        """The next news of any slot, or None if there is none for that many seconds."""

    def cancel(self, slot: int) -> None:
        """End a slot's job now, if there is one; it tells no more news of it."""

    def close(self) -> None:
        """End every job and every worker."""
