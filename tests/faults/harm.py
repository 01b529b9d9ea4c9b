"""The harm that a fault does to a run: to its processes, or to its files once it is dead."""

import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from bench.harness.run.leases import birth

Harm = Callable[[random.Random, int, Path], None]
"""(random numbers, process id of the run, folder of the results): done at a random moment; the run may be over by then."""


def kill_parent(_rng: random.Random, run: int, _results: Path) -> None:
    end(run, signal.SIGKILL)


def kill_worker(_rng: random.Random, run: int, _results: Path) -> None:
    for worker in workers(run):
        end(worker, signal.SIGKILL)


def kill_both(_rng: random.Random, run: int, _results: Path) -> None:
    for process in (*workers(run), *children(run), run):
        end(process, signal.SIGKILL)


def terminate(_rng: random.Random, run: int, _results: Path) -> None:
    end(run, signal.SIGTERM)


def interrupt(_rng: random.Random, run: int, _results: Path) -> None:
    end(run, signal.SIGINT)


def truncate(rng: random.Random, run: int, results: Path) -> None:
    """Kill the run, then cut off any one of its files at any length, as a file system may after a power cut."""
    kill_both(rng, run, results)
    files = sorted(path for path in results.rglob("*") if path.is_file() and "reports" not in path.parts)
    if files:
        path = rng.choice(files)
        os.truncate(path, rng.randrange(path.stat().st_size + 1))


HARMS: tuple[Harm, ...] = (kill_parent, kill_worker, kill_both, terminate, interrupt, truncate)


def workers(run: int) -> list[int]:
    """They are forked from a child that has made their imports."""
    return [worker for child in children(run) for worker in children(child)]


def children(process: int) -> list[int]:
    """The processes of this one's first generation; Linux."""
    try:
        listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in listed]


def end(process: int, how: signal.Signals) -> None:
    """Signal a process, unless it is gone."""
    if birth(process) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, how)
