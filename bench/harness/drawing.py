"""Drawing all images of a cell: timed, counted, and metered until the energy is known over a window that is long enough."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.contract import Progress
from bench.harness.scenes import sample_shape
from bench.measures import Energy, Measure
from bench.meters.calls import Calls, counted
from bench.meters.carbon import Place
from bench.meters.energy import energy_meter
from bench.meters.latency import timed
from bench.meters.memory import peak_memory
from bench.values import Budget, Cell

TRIALS = 3  # of energy at the least, each of one or more whole batches

Draw = Callable[[int, int], Callable[[], Tensor]]
"""(first, count) -> a call that samples first..first + count of the cell, uint8. What is asked for is made before, and not timed."""


@dataclass(frozen=True)
class Drawn:
    """All images of a cell (N, C, H, W) uint8 on the CPU and what drawing them cost; `full_batch_s` are seconds of batches of full size."""

    images: Tensor
    calls: Calls
    full_batch_s: tuple[float, ...]
    peak: Measure
    energy: Energy


def draw_all(draw: Draw, model: nn.Module, cell: Cell, device: torch.device, place: Place, progress: Progress) -> Drawn:
    """Every image once; then batches again, uncounted and thrown away, until the energy's window and trials are complete.

    Raises ValueError where a batch is not what the cell asked for.
    """
    total, batch = cell.budget.n_samples, min(cell.budget.batch_size, cell.budget.n_samples)
    wanted = sample_shape(cell.workload.task, cell.workload.shape)
    timed(draw(0, min(8, total)), device)  # warm-up
    images: list[Tensor] = []
    seconds: list[tuple[int, float]] = []
    with energy_meter(device, place=place) as energy, peak_memory(device) as peak:
        trials = Trials(energy.lap, cell.budget.energy_s)
        with counted(model) as calls:
            for first in range(0, total, batch):
                kept = Kept(draw(first, min(batch, total - first)), min(batch, total - first))
                seconds.append((kept.count, timed(kept, device)))
                images.append(checked(kept.result, (kept.count, *wanted)))
                trials.add(kept.count)
                progress("sampling", first + kept.count, total)
        while not trials.complete:
            timed(draw(0, batch), device)
            trials.add(batch)
    return Drawn(
        images=torch.cat([part.cpu() for part in images]),
        calls=calls,
        full_batch_s=tuple(s for count, s in seconds if count == batch),
        peak=peak.measure,
        energy=energy.per(total),
    )


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


def best_batch(draw: Draw, budget: Budget, full_batch_s: tuple[float, ...], device: torch.device) -> tuple[int, float]:
    """(batch size, images per second) of highest throughput: the budget's, a quarter, or four times it where time and memory allow."""
    batch = min(budget.batch_size, budget.n_samples)
    usual_s = statistics.median(full_batch_s)
    rates = {batch: batch / usual_s}
    for other in (batch // 4, 4 * batch):
        if other >= 1 and 2 * usual_s * other / batch <= budget.timing_s:
            try:
                rates[other] = other / min(timed(draw(0, other), device) for _ in range(2))
            except (torch.cuda.OutOfMemoryError, MemoryError):
                torch.cuda.empty_cache()
    best = max(rates, key=lambda size: rates[size])
    return best, rates[best]


def checked(images: Tensor | None, wanted: tuple[int, ...]) -> Tensor:
    """The batch, if it is uint8 of the shape that was asked for."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape) != wanted:
        raise ValueError(f"sample returned {getattr(images, 'dtype', type(images))} {getattr(images, 'shape', '')}, not uint8 {wanted}")
    return images
