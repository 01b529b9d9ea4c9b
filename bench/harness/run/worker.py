"""The worker process: takes jobs from a pipe, answers with progress and one outcome each. One per device, reused between cells."""

import contextlib
import os
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm

from bench.contract import Kit
from bench.data.datasets import load
from bench.harness.assets.trained import Assets
from bench.harness.cell.execute import Bench
from bench.harness.cell.scoring import Judge
from bench.harness.machine import provenance
from bench.harness.memory import out_of_memory
from bench.harness.run.messages import AssetJob, CellJob, Done, Job, Refused, Setup, ShardJob, Tick
from bench.meters.energy.carbon import place
from bench.meters.energy.host import Host
from bench.meters.energy.meter import idle_power
from bench.metrics.source import Weights
from bench.records.store import Store
from bench.registry import discover
from bench.tasks.scenes import scene_of
from bench.values import Cell, Status, UserError

LAST_LINES = 3
TICK_S = 0.1  # between two progress messages


def serve(pipe: Connection, setup: Setup) -> None:
    """The worker's main function: jobs until the pipe closes. Dies with its parent; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # libraries draw bars; the default lock is a semaphore that outlives a killed worker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with contextlib.suppress(BrokenPipeError, EOFError, ConnectionResetError):
        workshop = Workshop(setup, pipe.send)
        while True:
            pipe.send(workshop.do(pipe.recv()))


class Workshop:
    """Does jobs in this process, and keeps what they share: data, assets, extractors, the last fitted model."""

    def __init__(self, setup: Setup, tell: Callable[[Tick], None]) -> None:
        self._setup, self._report = setup, _throttled(tell)
        self._device = torch.device(setup.device)
        Host.sharers = setup.workers
        idle_power(self._device)  # now, before the device has work
        self._registry = discover(setup.options.plugins)
        self._store = Store(setup.store)
        self._benches: dict[str, tuple[Assets, Bench]] = {}

    def do(self, job: Job) -> Done | Refused:
        """A job's end. Whatever a strategy raises becomes its cell's record; a fault of the input is refused."""
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        try:
            try:
                return Done(Status.OK, self._do(job))
            except (UserError, BrokenPipeError, ConnectionResetError):  # the input is at fault, or the parent is gone: not the cell
                raise
            except Exception as error:
                status, reason = classify(error)
                if isinstance(job, CellJob):
                    card = self._registry.get(job.cell.strategy).card
                    made = provenance(self._device, started, time.perf_counter() - begin)
                    self._store.write_failed(job.cell, card, status, reason, made)
                return Done(status, reason)
        except UserError as error:
            return Refused(str(error))

    def _do(self, job: Job) -> str | None:
        """What there is to say of a job beside that it went well."""
        assets, bench = self._bench_for(job.cell)
        match job:
            case AssetJob(name, _):
                assets.get(name)
            case CellJob(cell):
                self._store.write(bench.run(cell, self._registry.build(cell.strategy, cell.params), self._store))
                shutil.rmtree(self._store.shard_folder(cell.id), ignore_errors=True)  # they have served
            case ShardJob(cell, first, count):
                bench.draw_shard(cell, self._registry.build(cell.strategy, cell.params), self._store, first, count)
        return assets.told()

    def _bench_for(self, cell: Cell) -> tuple[Assets, Bench]:
        key = f"{cell.workload}{cell.budget}"
        if key not in self._benches:
            self._benches[key] = self._equipped(cell)
        return self._benches[key]

    def _equipped(self, cell: Cell) -> tuple[Assets, Bench]:
        options = self._setup.options
        data = load(cell.workload.dataset, options.data)
        kit = Kit(
            workload=cell.workload,
            budget=cell.budget,
            images=data.train_images.to(self._device),
            labels=data.train_labels.to(self._device),
            device=self._device,
            seed=0,
            progress=self._report,
        )
        where = place(options.country)
        assets = Assets(self._setup.assets, data, kit, where)
        scene = scene_of(cell.workload.task, data, self._device, cell.budget.n_samples)
        weights = Weights(inception=options.inception_weights, download=options.data.download)
        judge = Judge(scene, assets, self._setup.assets, weights)
        return assets, Bench(scene, assets, judge, where, self._report)


def classify(error: Exception) -> tuple[Status, str]:
    """Status and one line of reason: the message and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-LAST_LINES:]))
    reason = f"{type(error).__name__}: {str(error).strip() or 'no message'} ({where})".replace("\n", " ")
    return (Status.OUT_OF_MEMORY if out_of_memory(error) else Status.FAILED), reason


def _throttled(tell: Callable[[Tick], None]) -> Callable[[str, int, int], None]:
    last = 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= TICK_S:
            last = now
            tell(Tick(what, done, total))

    return report


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
