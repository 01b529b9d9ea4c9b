"""Drawing all images of a cell: timed, counted, and metered until the energy is known over a window that is long enough."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bench.contract import Progress
from bench.harness.cell.shards import Shard, Shards, Taken, gaps
from bench.harness.memory import Batches
from bench.measures import Energy
from bench.meters.calls import Calls, counted
from bench.meters.energy.carbon import Place
from bench.meters.energy.meter import energy_meter
from bench.meters.latency import timed
from bench.meters.memory import Peak, peak_memory
from bench.tasks.scenes import sample_shape
from bench.values import Cell

TRIALS = 3  # of energy at the least, each of one or more whole batches

Draw = Callable[[int, int], Callable[[], Tensor]]
"""(first, count) -> a call that samples first..first + count of the cell, uint8. What is asked for is made before, and not timed."""


@dataclass(frozen=True)
class Drawn:
    """All images of a cell (N, C, H, W) uint8 on the CPU and what drawing them cost.

    `batch` is the budget's batch size, or the largest that fits; `batch_s` are seconds of each batch of that size.
    """

    images: Tensor
    calls: Calls
    batch: int
    batch_s: tuple[float, ...]
    peak: Peak
    energy: Energy


def draw_all(draw: Draw, model: nn.Module, cell: Cell, device: torch.device, place: Place, progress: Progress, shards: Shards) -> Drawn:
    """Every image once, those that `shards` hold excepted; then batches again, uncounted and thrown away, until the energy is known.

    Raises ValueError where a batch is not what the cell asked for, MemoryError where not even one image fits.
    """
    total, drawn = cell.budget.n_samples, shards.found()
    wanted = sample_shape(cell.workload.task, cell.workload.shape)
    batches = Batches(max([s.count for s in drawn.values()], default=min(cell.budget.batch_size, total)), device)
    one = partial(_drawn, draw, model, device, wanted)
    list(batches.over(0, min(8, total), one))  # warm-up
    with energy_meter(device, place=place) as energy, peak_memory(device) as peak:
        trials = Trials(energy.lap, cell.budget.energy_s)
        for first, count in gaps(drawn.values(), total):
            for shard in batches.over(first, count, one):
                drawn[shard.first] = shard
                shards.add(shard)
                trials.add(shard.count)
                progress("sampling", sum(s.count for s in drawn.values()), total)
        while not trials.complete:
            timed(draw(0, batches.size), device)
            trials.add(batches.size)
    in_order = [drawn[first] for first in sorted(drawn)]
    batch = max(shard.count for shard in in_order)
    return Drawn(
        images=torch.cat([shard.images for shard in in_order]),
        calls=total_calls(shard.taken for shard in in_order),
        batch=batch,
        batch_s=tuple(shard.taken.seconds for shard in in_order if shard.count == batch),
        peak=peak,
        energy=energy.per(total),
    )


def draw_some(
    draw: Draw, model: nn.Module, cell: Cell, device: torch.device, progress: Progress, shards: Shards, first: int, count: int
) -> Tensor:
    """Samples `first`.. of the cell, (count, C, H, W), put into its shards, or read where they lie there.

    What drawing them costs is metered where the cell is run.
    """
    one = partial(_drawn, draw, model, device, sample_shape(cell.workload.task, cell.workload.shape))
    batches, end = Batches(min(cell.budget.batch_size, count), device), first + count
    drawn = shards.found()
    for start, left in gaps(drawn.values(), end):
        start, left = max(start, first), min(left, start + left - first)
        for shard in batches.over(start, left, one):
            drawn[shard.first] = shard
            shards.add(shard)
            progress("sampling", shard.first + shard.count - first, count)
    shards.flush()
    return torch.cat([s.images[max(first - s.first, 0) : max(end - s.first, 0)] for _, s in sorted(drawn.items())])


def _drawn(draw: Draw, model: nn.Module, device: torch.device, wanted: tuple[int, ...], first: int, count: int) -> Shard:
    """One batch, timed and counted."""
    with counted(model) as calls:
        kept = Kept(draw(first, count), count)
        seconds = timed(kept, device)
    images = checked(kept.result, (count, *wanted)).cpu()
    return Shard(first=first, images=images, taken=Taken(seconds=seconds, rows=dict(calls.rows), calls=dict(calls.calls)))


def total_calls(parts: Iterable[Taken]) -> Calls:
    """The rows and calls of all batches."""
    calls = Calls()
    for taken in parts:
        for name, rows in taken.rows.items():
            calls.rows[name] += rows
            calls.calls[name] += taken.calls[name]
    return calls


class Kept:
    """A call that keeps its result, for a clock that throws it away."""

    def __init__(self, sample: Callable[[], Tensor], count: int) -> None:
        self._sample, self.count = sample, count
        self.result: Tensor | None = None

    def __call__(self) -> None:
        self.result = self._sample()


class Trials:
    """Joins batches to trials of equal length and ends each with `lap(images)`, until three of them fill the window."""

    def __init__(self, lap: Callable[[float], None], window_s: float) -> None:
        self._lap, self._window_s = lap, window_s
        self._since, self._images, self._laps = time.perf_counter(), 0, 0

    def add(self, images: int) -> None:
        self._images += images
        if time.perf_counter() - self._since >= self._window_s / TRIALS:
            self._lap(self._images)
            self._images, self._laps, self._since = 0, self._laps + 1, time.perf_counter()

    @property
    def complete(self) -> bool:
        """Three trials of a third of the window each have ended, and nothing is left over."""
        return self._laps >= TRIALS and self._images == 0


def best_batch(draw: Draw, size: int, usual_s: float, timing_s: float, device: torch.device) -> tuple[int, float]:
    """(batch size, images per second) of highest throughput: `size`, which takes `usual_s`, a quarter, or four times it where possible."""
    batches = Batches(size, device)
    rates = {size: size / usual_s}
    for other in (size // 4, 4 * size):
        if other >= 1 and 2 * usual_s * other / size <= timing_s:
            best_s = batches.attempt(lambda first, count: min(timed(draw(first, count), device) for _ in range(2)), 0, other)
            if best_s is not None:
                rates[other] = other / best_s
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]


def checked(images: Tensor | None, wanted: tuple[int, ...]) -> Tensor:
    """The batch, if it is uint8 of the shape that was asked for."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape) != wanted:
        raise ValueError(f"sample returned {getattr(images, 'dtype', type(images))} {getattr(images, 'shape', '')}, not uint8 {wanted}")
    return images
