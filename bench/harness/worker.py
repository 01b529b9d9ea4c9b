"""The worker process: takes jobs from a pipe, answers with progress and one outcome each. One per device, reused between cells."""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm

from bench.cards import Card
from bench.contract import Kit
from bench.data.datasets import load
from bench.harness.assets import Assets
from bench.harness.execute import Bench, provenance
from bench.harness.plan import Options
from bench.harness.quality import Judge
from bench.harness.scenes import scene_of
from bench.harness.store import Store
from bench.meters.carbon import place
from bench.meters.energy import idle_power
from bench.registry import discover
from bench.values import Cell, Provenance, Record, Status, UserError

LAST_LINES = 3
TICK_S = 0.1  # between two progress messages


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker needs to know once."""

    device: str
    options: Options
    assets: Path
    store: Path


@dataclass(frozen=True)
class AssetJob:
    """Train or load an asset for the workload of this cell."""

    name: str
    cell: Cell


@dataclass(frozen=True)
class CellJob:
    cell: Cell


Job = AssetJob | CellJob


@dataclass(frozen=True)
class Tick:
    """Progress within a job, in images."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """A job's end. A cell's record is on disk by now."""

    status: Status
    reason: str | None = None


@dataclass(frozen=True)
class Refused:
    """The input is at fault; the whole run ends with this line."""

    message: str


Message = Tick | Done | Refused


def serve(pipe: Connection, setup: Setup) -> None:
    """The worker's main function: jobs until the pipe closes. Dies with its parent; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # libraries draw bars; the default lock is a semaphore that outlives a killed worker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError, EOFError, ConnectionResetError):
        _serve(pipe, setup)


def _serve(pipe: Connection, setup: Setup) -> None:
    device = torch.device(setup.device)
    idle_power(device)  # now, before the device has work
    registry = discover(setup.options.plugins)
    benches: dict[str, tuple[Assets, Bench]] = {}
    report = _throttled(pipe)
    store = Store(setup.store)
    while True:
        job: Job = pipe.recv()
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        try:
            assets, bench = _bench_for(job.cell, setup, device, report, benches)
            if isinstance(job, AssetJob):
                assets.get(job.name)
            else:
                store.write(bench.run(job.cell, registry.build(job.cell.strategy, job.cell.params), store))
            pipe.send(Done(Status.OK))
        except UserError as error:
            pipe.send(Refused(str(error)))
        except (BrokenPipeError, ConnectionResetError):  # the parent is gone; the cell is not at fault
            raise
        except Exception as error:  # whatever a strategy raises becomes its cell's record
            status, reason = classify(error)
            if isinstance(job, CellJob):
                card = registry.get(job.cell.strategy).card
                made = provenance(device, started, time.perf_counter() - begin)
                store.write(failed(job.cell, card, status, reason, made))
            pipe.send(Done(status, reason))


def failed(cell: Cell, card: Card, status: Status, reason: str, made: Provenance) -> Record:
    """A record without numbers: every cell has one, with its reason."""
    return Record(cell=cell, card=card, status=status, reason=reason, train=None, inherited={}, sample=None, scores={}, provenance=made)


def classify(error: Exception) -> tuple[Status, str]:
    """Status and one line of reason: the message and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-LAST_LINES:]))
    reason = f"{type(error).__name__}: {str(error).strip() or 'no message'} ({where})".replace("\n", " ")
    memory = isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)
    return (Status.OUT_OF_MEMORY if memory else Status.FAILED), reason


def _bench_for(
    cell: Cell,
    setup: Setup,
    device: torch.device,
    report: Callable[[str, int, int], None],
    benches: dict[str, tuple[Assets, Bench]],
) -> tuple[Assets, Bench]:
    key = f"{cell.workload}{cell.budget}"
    if key not in benches:
        data = load(cell.workload.dataset, setup.options.data)
        kit = Kit(
            workload=cell.workload,
            budget=cell.budget,
            images=data.train_images.to(device),
            labels=data.train_labels.to(device),
            device=device,
            seed=0,
            progress=report,
        )
        where = place(setup.options.country)
        assets = Assets(setup.assets, data, kit, where)
        scene = scene_of(cell.workload.task, data, device, cell.budget.n_samples)
        judge = Judge(scene, assets, setup.assets, setup.options.inception_weights, setup.options.data.download)
        benches[key] = assets, Bench(scene, assets, judge, where, report)
    return benches[key]


def _throttled(pipe: Connection) -> Callable[[str, int, int], None]:
    last = 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= TICK_S:
            last = now
            pipe.send(Tick(what, done, total))

    return report


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
