"""One cell from start to record, inside the worker: fit, sample, count, time, score. Everything is measured from outside the strategy."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bench.contract import Kit, LikelihoodStrategy, Progress, Strategy
from bench.harness.assets.compiled import Compilation, Rival, evaluated
from bench.harness.assets.trained import Asset, Assets, closure, priced
from bench.harness.cell.features import Extracted
from bench.harness.cell.grid import GRID_IMAGES, exhibit, save_grid
from bench.harness.cell.sampling import Draw, Drawn, best_batch, draw_all, draw_some
from bench.harness.cell.scoring import Judge
from bench.harness.cell.shards import Shards
from bench.harness.machine import provenance
from bench.harness.memory import Batches
from bench.harness.plan.cells import fit_key
from bench.measures import Measure, SampleCost, measured, missing
from bench.meters.calls import Calls, counted
from bench.meters.conditions import conditions_between, state_of
from bench.meters.energy.carbon import Place
from bench.meters.flops import Flops, trajectory_flops
from bench.meters.latency import measure, median_interval
from bench.meters.params import buffer_bytes, parameter_count
from bench.metrics.features import weights_hash
from bench.records.store import Store
from bench.tasks.scene import Scene
from bench.values import Cell, Compute, Record, Status

COUNTING_BATCH = 2


class Stopwatch:
    """Seconds of named phases, one after the other."""

    def __init__(self) -> None:
        self.phases_s: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.phases_s[phase], self._since = now - self._since, now


@dataclass(frozen=True)
class Counts:
    """Of COUNTING_BATCH images: the networks' calls, the noise levels they were at, and the operations."""

    calls: Calls
    flops: Flops


def counts_of(draw: Draw, model: nn.Module) -> Counts:
    with counted(model, with_levels=True) as calls:
        return Counts(calls, trajectory_flops(draw(0, COUNTING_BATCH)))


class Bench:
    """The worker's hands: one scene, one budget, one device; keeps the last fitted model for the rest of its sweep."""

    def __init__(self, scene: Scene, assets: Assets, judge: Judge, place: Place, progress: Progress) -> None:
        self._scene, self._assets, self._judge, self._place, self._progress = scene, assets, judge, place, progress
        self._device = scene.device
        self._fitted: tuple[str, Asset] | None = None

    def run(self, cell: Cell, strategy: Strategy[Any], store: Store) -> Record:
        """The cell's OK record; exceptions are the caller's."""
        started, watch = datetime.now(UTC).isoformat(timespec="seconds"), Stopwatch()
        kit = self._kit(cell, strategy)
        inherited = {name: self._assets.get(name).cost for name in closure(strategy.card.assets)}
        watch.lap("assets")
        fitted = self._fit(cell, strategy, kit)
        watch.lap("fit")
        with torch.no_grad():
            draw = partial(self._draw, cell, strategy, fitted.module)
            before = state_of(self._device)
            counts = counts_of(draw, fitted.module)  # as written: what runs compiled is not dispatched
            watch.lap("counts")
            shards = self._shards(cell, fitted.module, store)
            with self._evaluated(cell, draw, fitted.module) as compilation:
                watch.lap("compile")
                drawn = draw_all(draw, fitted.module, cell, self._device, self._place, self._progress, shards)
                watch.lap("draw")
                cost = self._cost(cell, draw, fitted.module, drawn, counts, compilation)
            conditions = conditions_between(before, state_of(self._device))
            watch.lap("cost")
            scores = self._judge.scores(drawn.images, cell.extractors, Extracted(store.shard_folder(cell.id)))
            watch.lap("scores")
            scores["nll_bits_per_dim"] = self._likelihood(cell, strategy, fitted.module)
            watch.lap("likelihood")
        made = provenance(self._device, started, sum(watch.phases_s.values()))
        target = self._scene.target(torch.arange(GRID_IMAGES))
        shown = exhibit(drawn.images, target.images if target else None)
        return Record(
            cell=cell,
            card=strategy.card,
            status=Status.OK,
            reason=None,
            train=fitted.cost,
            inherited=inherited,
            sample=cost,
            scores=scores,
            provenance=dataclasses.replace(made, conditions=conditions, phases_s=watch.phases_s),
            samples_png=save_grid(shown, store.sample_path(cell.id)),
        )

    def draw_shard(self, cell: Cell, strategy: Strategy[Any], store: Store, first: int, count: int) -> None:
        """Draw some of a cell's samples and leave them, and their features, on disk for whoever runs the cell."""
        fitted = self._fit(cell, strategy, self._kit(cell, strategy))
        shards = self._shards(cell, fitted.module, store)
        draw = partial(self._draw, cell, strategy, fitted.module)
        with torch.no_grad(), evaluated(fitted.module, cell.compute, self._device):
            images = draw_some(draw, fitted.module, cell, self._device, self._progress, shards, first, count)
        self._judge.extract(images, first, cell.extractors, Extracted(store.shard_folder(cell.id)))

    @contextmanager
    def _evaluated(self, cell: Cell, draw: Draw, model: nn.Module) -> Iterator[Compilation]:
        """The cell's way of evaluating networks, and what compiling them cost."""
        if cell.compute is Compute.REFERENCE:
            yield Compilation()
            return
        largest = min(cell.budget.batch_size, cell.budget.n_samples)
        rival = Rival(lambda count: draw(0, count), largest, self._device)
        with evaluated(model, cell.compute, self._device):
            yield rival.compilation()

    def _kit(self, cell: Cell, strategy: Strategy[Any]) -> Kit:
        return self._scene.kit(self._assets.kit_with(strategy.card.assets, cell.seed))

    def _shards(self, cell: Cell, model: nn.Module, store: Store) -> Shards:
        return Shards(store.shard_folder(cell.id), lambda: weights_hash(model))

    def _fit(self, cell: Cell, strategy: Strategy[Any], kit: Kit) -> Asset:
        key = fit_key(cell, strategy.card)
        if self._fitted is None or self._fitted[0] != key:
            self._fitted = None  # let the old model go before the new one needs the memory
            self._fitted = key, priced(lambda k: strategy.fit(k), kit, self._place)
        return self._fitted[1]

    def _draw(self, cell: Cell, strategy: Strategy[Any], model: nn.Module, first: int, count: int) -> Callable[[], Tensor]:
        return partial(strategy.sample, model, self._scene.request(torch.arange(first, first + count), cell.seed))

    def _cost(self, cell: Cell, draw: Draw, model: nn.Module, drawn: Drawn, counts: Counts, compilation: Compilation) -> SampleCost:
        calls, flops = counts.calls, counts.flops
        latency = measure(draw(0, 1), self._device, cell.budget.timing_s)
        low, high = median_interval(latency.samples_s)
        batch, images_per_s = best_batch(draw, drawn.batch, median(drawn.batch_s), cell.budget.timing_s, self._device)
        n, has_networks, timed_n = len(drawn.images), bool(drawn.calls.rows), len(latency.samples_s)
        more = evaluations_ratio(drawn.calls.per_image(n), calls.per_image(COUNTING_BATCH))
        no_network = missing("not applicable: no network is called")
        alone = f"batch 1 after {latency.warm_ups} warm-ups"
        return SampleCost(
            steps=measured(calls.steps(), method="distinct noise levels at the networks") if has_networks else no_network,
            nfe_per_image=measured(drawn.calls.evaluations() / n, n=n, method="hooks") if has_networks else no_network,
            calls_per_image=drawn.calls.per_image(n),
            flops_per_image=measured(flops.per_image * more, n=n, method="dispatch, 2 per multiply-add; by the evaluations of all images"),
            flops_by_operation={name: count * more for name, count in flops.by_operation.items()},
            free_operations=flops.free,
            params=measured(parameter_count(model)),
            buffer_bytes=measured(buffer_bytes(model)),
            latency_p50_s=Measure(value=latency.p50, low=low, high=high, n=timed_n, method=alone),
            latency_p95_s=measured(latency.p95, n=timed_n, method=alone),
            images_per_s=measured(images_per_s, n=n, method=f"batch {batch}"),
            best_batch=measured(batch),
            compile_s=compilation.seconds,
            break_even_images=compilation.break_even,
            peak_bytes=drawn.peak.growth,
            peak_total_bytes=drawn.peak.total,
            energy=drawn.energy,
        )

    def _likelihood(self, cell: Cell, strategy: Strategy[Any], model: nn.Module) -> Measure:
        if not isinstance(strategy, LikelihoodStrategy):
            return missing(strategy.card.likelihood)
        images, labels = (part[: cell.budget.nll_images].to(self._device) for part in self._scene.likelihood_of)

        def bits_of(first: int, count: int) -> Tensor:
            part = slice(first, first + count)
            request = self._scene.request(torch.arange(first, first + count), cell.seed, labels[part])
            bits = strategy.bits_per_dim(model, images[part], request).double().cpu()
            self._progress("likelihood", first + count, len(images))
            return bits

        bits = torch.cat(list(Batches(cell.budget.batch_size, self._device).over(0, len(images), bits_of)))
        error = float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else 0.0
        mean = float(bits.mean())
        return Measure(
            value=mean, low=mean - 1.96 * error, high=mean + 1.96 * error, n=len(bits), method=f"{strategy.card.likelihood}; test split"
        )


def evaluations_ratio(of_all: dict[str, float], of_few: dict[str, float]) -> float:
    """How many more evaluations all images took than the few whose operations were counted: other than 1 where steps adapt to the image."""
    return sum(of_all.values()) / sum(of_few.values()) if sum(of_few.values()) else 1.0
