"""The work of one run: claims jobs, has an engine do them, sees that each cell leaves a record."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from bench.data.datasets import load
from bench.harness.assets.trained import ASSET, asset_id, depth
from bench.harness.cell.shards import drawn_whole
from bench.harness.machine import provenance
from bench.harness.plan.cells import asset_names, fit_key
from bench.harness.run.dispatch import Claimed, Desk, Drive, Ended
from bench.harness.run.engine import Engine
from bench.harness.run.leases import Leases
from bench.harness.run.messages import AssetJob, CellJob, Job, Setup, ShardJob
from bench.harness.run.progress import Display
from bench.records.store import PUBLISHED, Store, read_outcome, readable
from bench.registry import Registry
from bench.values import Cell, Record, Status

LEAST = 500  # samples that a slot draws at least of a cell that several share


@dataclass(frozen=True)
class Clock:
    """The run's deadline, the limit of a cell, and how long configurations took before."""

    deadline: float | None
    cell_s: float
    history: dict[str, float]

    def limit(self, cell: Cell) -> float | None:
        """Seconds that a cell may take; None where the deadline leaves less than it took before."""
        if self.deadline is None:
            return self.cell_s
        left = self.deadline - time.monotonic()
        needed = self.history.get(cell.strategy, 1.0)
        return None if left < needed else min(self.cell_s, left)


class Runner:
    """One run of the cells `todo`: claims them, has an engine do them, sees that each leaves a record."""

    def __init__(
        self, setup: Setup, store: Store, registry: Registry, clock: Clock, leases: Leases, display: Display, todo: Sequence[Cell]
    ) -> None:
        self._setup, self._store, self._registry, self._clock, self._leases = setup, store, registry, clock, leases
        self._display, self._todo = display, todo
        self._stamps = {cell.id: store.stamp(cell.id) for cell in todo}
        self._shares: Counter[str] = Counter()  # by cell, those still to be drawn
        self.ok = self.failed = self.elsewhere = 0

    def work(self, engine: Engine) -> None:
        """Everything to do. However it ends, no worker and no lease is left."""
        desk = Desk(claim=self._claim, limit=lambda job: self._clock.limit(job.cell), bar=self._display.job)
        drive = Drive(engine, desk)
        try:
            for wave in asset_waves(self._todo):
                for ended in drive.over([job] for job in wave):
                    self._part_ended(ended)
            for ended in drive.over(self._sweeps(engine.slots)):
                (self._cell_ended if isinstance(ended.job, CellJob) else self._part_ended)(ended)
        finally:
            engine.close()
            self._leases.close()

    def _sweeps(self, slots: int) -> Iterator[Sequence[Job]]:
        """The cells in the order planned, those of one fitted model together, each sweep after the shares of its cells."""
        trained_nothing = self._trained_nothing() if slots > 1 else set()
        for _, group in groupby(self._todo, key=lambda cell: fit_key(cell, self._registry.get(cell.strategy).card)):
            cells = list(group)
            shares = list(shard_jobs(cells, trained_nothing, slots))
            self._shares.update(job.cell.id for job in shares)
            yield from ([job] for job in shares)
            yield [CellJob(cell) for cell in cells]

    def _claim(self, job: Job) -> Claimed:
        if isinstance(job, CellJob) and self._shares[job.cell.id]:
            return Claimed.LATER
        if self._is_done(job):
            return Claimed.DONE
        if not self._leases.take(self._lease(job)):
            return Claimed.HELD
        if self._is_done(job):  # by one who gave the lease back a moment ago
            self._leases.release(self._lease(job))
            return Claimed.DONE
        return Claimed.MINE

    def _is_done(self, job: Job) -> bool:
        """An asset or a shard that lies there; a cell whose record another runner has written since this run began, well or not."""
        if isinstance(job, AssetJob):
            return (self._setup.assets / self._asset_id(job) / ASSET).is_file()
        if isinstance(job, ShardJob) and drawn_whole(self._store.shard_folder(job.cell.id), job.first, job.count):
            return True
        return self._store.stamp(job.cell.id) != self._stamps[job.cell.id]

    def _lease(self, job: Job) -> str:
        if isinstance(job, AssetJob):
            return self._asset_id(job)
        part = f"-{job.first}" if isinstance(job, ShardJob) else ""
        return f"{job.cell.id}{part}-{self._store.folder.name}"

    def _asset_id(self, job: AssetJob) -> str:
        return asset_id(job.name, load(job.cell.workload.dataset, self._setup.options.data), job.cell.budget)

    def _trained_nothing(self) -> set[str]:
        """The strategies of which a record says that fitting them saw no images: every slot has the same model at no cost."""
        known = readable(PUBLISHED, self._setup.assets.parent)
        return {record.cell.strategy for record in known if trained_nothing(record)}

    def _part_ended(self, ended: Ended) -> None:
        """An asset or a shard. A failure is told, and then met by the cells that need it."""
        if isinstance(ended.job, ShardJob):
            self._shares[ended.job.cell.id] -= 1
        if ended.outcome is not None:
            self._leases.release(self._lease(ended.job))
            said = f": {ended.outcome.reason}" if ended.outcome.reason else ""
            self._display.line(f"  {ended.job.title}: {ended.outcome.status}, {ended.wall_s:.1f} s{said}")

    def _cell_ended(self, ended: Ended) -> None:
        cell, outcome = ended.job.cell, ended.outcome
        if outcome is None:
            status = read_outcome(self._store.record_path(cell.id)).status
            self.elsewhere += status is Status.OK
            self.failed += status is not Status.OK
            return self._display.cell_done(cell, status, "by another runner", 0.0)
        if outcome.status in (Status.KILLED, Status.TIMEOUT):
            made = provenance(torch.device(self._setup.device), ended.started, ended.wall_s)
            card = self._registry.get(cell.strategy).card
            self._store.write_failed(cell, card, outcome.status, outcome.reason or "no reason given", made)
        self._leases.release(self._lease(ended.job))
        self.ok += outcome.status is Status.OK
        self.failed += outcome.status is not Status.OK
        self._display.cell_done(cell, outcome.status, outcome.reason, ended.wall_s)


def trained_nothing(record: Record) -> bool:
    return record.train is not None and record.train.images_seen.value == 0


def shard_jobs(todo: Iterable[Cell], trained_nothing: set[str], slots: int) -> Iterator[ShardJob]:
    """Even shares of the cells whose model comes at no cost; the last one is drawn, and metered, by who runs the cell.

    Shares are of whole batches, so that each image is drawn in the batch that it would have on one slot.
    """
    for cell in todo:
        if cell.strategy in trained_nothing:
            total = cell.budget.n_samples
            batch = cell.budget.batch_size
            share = batch * math.ceil(max(LEAST, total / slots) / batch)
            yield from (ShardJob(cell, first, share) for first in range(0, total - share, share))


def asset_waves(todo: Sequence[Cell]) -> list[list[AssetJob]]:
    """The assets of these cells, each once; those of a wave need none but those of waves before."""
    names = asset_names(list(todo))
    users = {name: next((cell for cell in todo if name in cell.asset_ids), todo[0]) for name in names}
    return [[AssetJob(name, users[name]) for name in wave] for _, wave in groupby(names, key=depth)]
