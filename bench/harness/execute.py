"""One cell from start to record, inside the worker: fit, sample, count, time, score. Everything is measured from outside the strategy."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.contract import Kit, LikelihoodStrategy, Progress, Request, Strategy
from bench.data.datasets import DataSet
from bench.diffusion.noise import SeededDraws
from bench.harness import environment
from bench.harness.assets import Asset, Assets, priced
from bench.harness.quality import Judge
from bench.harness.samples import GRID_IMAGES, save_grid
from bench.harness.store import Store
from bench.meters.calls import Calls, counted
from bench.meters.energy import energy_meter
from bench.meters.flops import trajectory_flops
from bench.meters.latency import measure, timed
from bench.meters.memory import peak_memory
from bench.meters.params import buffer_bytes, parameter_count
from bench.values import Cell, Energy, Measure, Provenance, Record, SampleCost, Status, digest, measured, missing

SEED_STRIDE = 1_000_003  # image k of cell seed s has seed s * stride + k, the same for every strategy
COUNTING_BATCH = 2


@dataclass(frozen=True)
class Sampled:
    """All images of a cell (N, C, H, W) uint8 and what drawing them cost."""

    images: Tensor
    labels: Tensor
    calls: Calls
    batch_s: tuple[float, ...]
    peak: Measure
    energy: Energy


class Kept:
    """A call that keeps its result, for a clock that throws it away."""

    def __init__(self, call: Callable[[], Tensor]) -> None:
        self._call = call
        self.result: Tensor | None = None

    def __call__(self) -> None:
        self.result = self._call()


class Bench:
    """The worker's hands: one data set, one budget, one device; keeps the last fitted model for the rest of its sweep."""

    def __init__(self, data: DataSet, assets: Assets, judge: Judge, device: torch.device, progress: Progress) -> None:
        self._data, self._assets, self._judge, self._device, self._progress = data, assets, judge, device, progress
        self._fitted: tuple[str, Asset] | None = None

    def run(self, cell: Cell, strategy: Strategy[Any], store: Store) -> Record:
        """The cell's OK record; exceptions are the caller's."""
        started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
        kit = self._assets.kit_with(strategy.card.assets, cell.seed)
        inherited = {name: self._assets.get(name).cost for name in self._assets.closure(strategy.card.assets)}
        fitted = self._fit(cell, strategy, kit)
        with torch.no_grad():
            sampled = self._sample(cell, strategy, fitted.module)
            cost = self._cost(cell, strategy, fitted.module, sampled)
            scores = self._judge.scores(sampled.images, sampled.labels, cell.extractors)
            scores["nll_bits_per_dim"] = self._likelihood(cell, strategy, fitted.module)
        grid = save_grid(sampled.images[:GRID_IMAGES], store.sample_path(cell.id))
        return Record(
            cell=cell,
            card=strategy.card,
            status=Status.OK,
            reason=None,
            train=fitted.cost,
            inherited=inherited,
            sample=cost,
            scores=scores,
            provenance=provenance(self._device, started, time.perf_counter() - begin),
            samples_png=grid,
        )

    def _fit(self, cell: Cell, strategy: Strategy[Any], kit: Kit) -> Asset:
        fixed = {k: v for k, v in cell.params.items() if k not in strategy.card.sampling_fields}
        key = digest([cell.strategy, fixed, cell.seed, cell.code_hash])
        if self._fitted is None or self._fitted[0] != key:
            self._fitted = None  # let the old model go before the new one needs the memory
            self._fitted = key, priced(lambda k: strategy.fit(k), kit)
        return self._fitted[1]

    def _sample(self, cell: Cell, strategy: Strategy[Any], model: nn.Module) -> Sampled:
        budget, images, seconds = cell.budget, [], []
        labels = torch.arange(budget.n_samples) % cell.workload.n_classes
        timed(lambda: strategy.sample(model, self._request(cell, 0, min(8, budget.n_samples))), self._device)  # warm-up
        with energy_meter(self._device) as energy, peak_memory(self._device) as peak, counted(model) as calls:
            for first in range(0, budget.n_samples, budget.batch_size):
                count = min(budget.batch_size, budget.n_samples - first)
                batch = Kept(partial(strategy.sample, model, self._request(cell, first, count)))
                seconds.append(timed(batch, self._device))
                images.append(_checked(batch.result, count, cell))
                self._progress("sampling", first + count, budget.n_samples)
        every = torch.cat([part.cpu() for part in images])
        return Sampled(every, labels, calls, tuple(seconds), peak.measure, energy.energy)

    def _cost(self, cell: Cell, strategy: Strategy[Any], model: nn.Module, sampled: Sampled) -> SampleCost:
        budget = cell.budget

        def draw(count: int) -> Callable[[], Tensor]:
            return lambda: strategy.sample(model, self._request(cell, 0, count))

        with counted(model, with_levels=True) as calls:
            flops = trajectory_flops(draw(COUNTING_BATCH))
        latency = measure(draw(1), self._device, budget.timing_s)
        batch, images_per_s = self._best_batch(draw, budget.batch_size, sampled)
        n, has_networks = len(sampled.images), bool(sampled.calls.rows)
        no_network = missing("not applicable: no network is called")
        return SampleCost(
            steps=measured(calls.steps(), method="distinct noise levels at the networks") if has_networks else no_network,
            nfe_per_image=measured(sum(sampled.calls.rows.values()) / n, n=n, method="hooks") if has_networks else no_network,
            calls_per_image=sampled.calls.per_image(n),
            flops_per_image=measured(flops, n=COUNTING_BATCH, method="dispatch, 2 per multiply-add"),
            params=measured(parameter_count(model)),
            buffer_bytes=measured(buffer_bytes(model)),
            latency_p50_s=measured(latency.p50, n=len(latency.samples_s), method="batch 1"),
            latency_p95_s=measured(latency.p95, n=len(latency.samples_s), method="batch 1"),
            images_per_s=measured(images_per_s, n=n, method=f"batch {batch}"),
            best_batch=measured(batch),
            peak_bytes=sampled.peak,
            energy=sampled.energy,
        )

    def _best_batch(self, draw: Callable[[int], Callable[[], Tensor]], batch: int, sampled: Sampled) -> tuple[int, float]:
        """The batch size of highest throughput: the budget's, or a quarter of it where that is faster."""
        full = [s for s, count in zip(sampled.batch_s, _batches(len(sampled.images), batch)) if count == batch] or [sampled.batch_s[0]]
        best = min(batch, len(sampled.images)), min(batch, len(sampled.images)) / sorted(full)[len(full) // 2]
        smaller = batch // 4
        if smaller >= 1:
            rate = smaller / min(timed(draw(smaller), self._device) for _ in range(2))
            best = max(best, (smaller, rate), key=lambda pair: pair[1])
        return best

    def _likelihood(self, cell: Cell, strategy: Strategy[Any], model: nn.Module) -> Measure:
        if not isinstance(strategy, LikelihoodStrategy):
            return missing(strategy.card.likelihood)
        images = self._data.test_images[: cell.budget.nll_images].to(self._device)
        labels = self._data.test_labels[: len(images)].to(self._device)
        parts = []
        for first in range(0, len(images), cell.budget.batch_size):
            part = slice(first, first + cell.budget.batch_size)
            request = dataclasses.replace(self._request(cell, first, len(images[part])), labels=labels[part])
            parts.append(strategy.bits_per_dim(model, images[part], request).double().cpu())
            self._progress("likelihood", min(part.stop, len(images)), len(images))
        bits = torch.cat(parts)
        error = float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else 0.0
        mean = float(bits.mean())
        return Measure(
            value=mean, low=mean - 1.96 * error, high=mean + 1.96 * error, n=len(bits), method=f"{strategy.card.likelihood}; test split"
        )

    def _request(self, cell: Cell, first: int, count: int) -> Request:
        """Images first..first + count of the cell, on its device."""
        index = torch.arange(first, first + count, device=self._device)
        seeds = cell.seed * SEED_STRIDE + index
        return Request(
            seeds=seeds,
            labels=index % cell.workload.n_classes,
            shape=cell.workload.shape,
            device=self._device,
            draws=lambda: SeededDraws(seeds),
        )


def provenance(device: torch.device, started: str, wall_s: float) -> Provenance:
    return Provenance(
        device=environment.device_name(device),
        host=environment.host(),
        system=environment.system(),
        versions=environment.versions(),
        git=environment.git_revision(),
        started=started,
        wall_s=wall_s,
    )


def _batches(total: int, batch: int) -> list[int]:
    return [min(batch, total - first) for first in range(0, total, batch)]


def _checked(images: Tensor | None, count: int, cell: Cell) -> Tensor:
    wanted = (count, *cell.workload.shape)
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or tuple(images.shape) != wanted:
        raise ValueError(f"sample returned {getattr(images, 'dtype', type(images))} {getattr(images, 'shape', '')}, not uint8 {wanted}")
    return images
