"""Leases: who works on what, told to other runners on the same folder, so that two runners do no work twice.

A lease is a file with its holder and a number that a heartbeat raises. On the holder's own machine it ends with the holder's process; seen
from another one it has ended when the number has stood still for `STALE_S` of the observer's monotonic clock, so that no jump of a wall
clock ends or prolongs a lease. Taking is serialised by a file lock, held for milliseconds.
"""

import fcntl
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench.records.store import dump, parse, write_atomic
from bench.values import UserError

BEAT_S = 10.0
STALE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A runner. `machine` tells boots and containers apart, `born` is its process's start in clock ticks since then, `beat` only grows."""

    token: str
    machine: str
    pid: int
    born: str
    beat: int = 0


class Leases:
    """The leases of one runner in one folder. `close` gives all of them back; a runner that dies gives them back by dying."""

    def __init__(self, folder: Path, *, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> None:
        self._folder, self._beat_s, self._stale_s = folder, beat_s, stale_s
        self._me = Holder(token=uuid.uuid4().hex, machine=machine(), pid=os.getpid(), born=birth(os.getpid()) or "")
        self._held: set[str] = set()
        self._seen: dict[str, tuple[str, int, float]] = {}  # name -> (token, beat, when first seen so)
        self._guard, self._over = threading.Lock(), threading.Event()
        self._heart = threading.Thread(target=self._beating, daemon=True)

    def take(self, name: str) -> bool:
        """Whether the lease is ours now; it is not while another runner that lives holds it. A folder without room is a `UserError`."""
        with self._guard, locked(self._folder):
            holder = self._read(name)
            if holder is not None and holder.token != self._me.token and self._lives(name, holder):
                return False
            write_atomic(self._path(name), dump(Holder, self._me))
            self._held.add(name)
        if not self._heart.is_alive():
            self._heart.start()
        return True

    def release(self, name: str) -> None:
        """Give a lease back; one that is no longer ours is left to its holder."""
        with self._guard, locked(self._folder):
            self._held.discard(name)
            holder = self._read(name)
            if holder is not None and holder.token == self._me.token:
                self._path(name).unlink(missing_ok=True)

    def close(self) -> None:
        self._over.set()
        for name in sorted(self._held):
            with suppress(OSError, UserError):  # it ends with this process all the same
                self.release(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lease"

    def _read(self, name: str) -> Holder | None:
        """None where there is no lease; one that is damaged is nobody's."""
        try:
            return parse(Holder, self._path(name))
        except UserError:
            return None

    def _lives(self, name: str, holder: Holder) -> bool:
        if holder.machine == self._me.machine:
            return birth(holder.pid) == holder.born
        token, beat, since = self._seen.get(name, ("", 0, 0.0))
        now = time.monotonic()
        if (token, beat) != (holder.token, holder.beat):
            self._seen[name] = holder.token, holder.beat, now
            return True
        return now - since < self._stale_s

    def _beating(self) -> None:
        while not self._over.wait(self._beat_s):
            self._me = replace(self._me, beat=self._me.beat + 1)
            with suppress(UserError), self._guard, locked(self._folder):  # no room to beat: another may do the work again
                for name in self._held:
                    holder = self._read(name)
                    if holder is None or holder.token == self._me.token:  # else it was taken over while this process stood still
                        write_atomic(self._path(name), dump(Holder, self._me))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time inside, of all that use this folder; a file system without locks lets them in together."""
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write {lock}: {error.strerror}") from error
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@cache
def machine() -> str:
    """This boot of this machine and this container's processes; where that is not told, the name alone, and heartbeats decide."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{platform.node()}/{uuid.uuid4().hex}"


def birth(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where there is no such process, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
