"""What a check is given: a strategy, fitted once on the digits at a budget of seconds."""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.cards import AssetName
from bench.contract import Evaluation, Kit, LikelihoodStrategy, Request, Strategy, as_written
from bench.data.datasets import DataSource, load
from bench.harness.assets.trained import Assets
from bench.registry import Registry
from bench.tasks.scenes import sample_shape, scene_of
from bench.testing.played import GPU
from bench.values import Budget, Workload

CPU = torch.device("cpu")
BATCH = 4
BUDGET = Budget(train_images=256, train_batch=32, width=8, n_samples=8, batch_size=BATCH, nll_images=BATCH, timing_s=0.1)


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="bench-check-")


@lru_cache(maxsize=1)
def tiny_assets() -> Assets:
    """Assets for the digits at a budget that trains in a moment; only plumbing is tested with them."""
    data = load("digits", DataSource())
    workload = Workload(dataset="digits", shape=data.shape, n_classes=data.n_classes)
    kit = Kit(
        workload=workload,
        budget=BUDGET,
        images=data.train_images,
        labels=data.train_labels,
        device=CPU,
        seed=0,
    )
    return Assets(Path(_folder().name), data, kit)


@lru_cache
def asset_on(name: AssetName, device: torch.device) -> nn.Module:
    """A tiny asset, trained on the processor; on another device a copy of it."""
    asset = tiny_assets().get(name).module
    return asset if device == CPU else copy.deepcopy(asset).to(device)


class Subject:
    """A strategy under test, in the first configuration of its card's sweep and on its first task, fitted once."""

    def __init__(self, name: str, registry: Registry, device: torch.device = CPU) -> None:
        self.name, self.registry, self.device = name, registry, device
        self.cls = registry.get(name)
        self.strategy = registry.build(name, self.cls.card.sweep[0])
        self.scene = scene_of(self.cls.card.tasks[0], load("digits", DataSource()), device, BATCH)

    def fit(self, seed: int = 0, strategy: Strategy[Any] | None = None, evaluated: Evaluation = as_written) -> nn.Module:
        kit = tiny_assets().kit_with(self.cls.card.assets, seed)
        assets = {name: partial(asset_on, name, self.device) for name in kit.assets}
        kit = replace(kit, device=self.device, evaluated=evaluated, assets=assets)
        module: nn.Module = (strategy or self.strategy).fit(self.scene.kit(kit))
        return module

    @cached_property
    def on_gpu(self) -> "Subject":
        """The same on the GPU that the processor plays, for use where it does."""
        return Subject(self.name, self.registry, GPU)

    @cached_property
    def model(self) -> nn.Module:
        return self.fit()

    def sample(self, model: nn.Module | None = None, seeds: Sequence[int] = range(BATCH), strategy: Strategy[Any] | None = None) -> Tensor:
        with torch.no_grad():
            images: Tensor = (strategy or self.strategy).sample(model or self.model, self.request(seeds))
        return images

    def bits_per_dim(self, seeds: Sequence[int] = range(BATCH)) -> Tensor | None:
        """Of the held-out images with these numbers; None where the strategy has no likelihood."""
        if not isinstance(self.strategy, LikelihoodStrategy):
            return None
        images, labels = (part[list(seeds)].to(self.device) for part in self.scene.likelihood_of)
        with torch.no_grad():
            bits: Tensor = self.strategy.bits_per_dim(self.model, images, self.request(seeds, labels))
        return bits

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return sample_shape(self.scene.task, self.scene.base.shape)

    def request(self, seeds: Sequence[int] = range(BATCH), labels: Tensor | None = None) -> Request:
        """Digits with these image seeds, as the task asks for them; with labels where they belong to given images."""
        return self.scene.request(torch.tensor(list(seeds)), 0, labels)
