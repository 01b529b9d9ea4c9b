"""What a check is given: a strategy, fitted once on the digits at a budget of seconds."""

import tempfile
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.contract import Kit, Request, Strategy
from bench.data.datasets import DataSource, load
from bench.diffusion.noise import SeededDraws
from bench.harness.assets import Assets
from bench.registry import Registry
from bench.values import Budget, Workload

BATCH = 4
BUDGET = Budget(train_images=256, train_batch=32, width=8, n_samples=8, batch_size=BATCH, nll_images=BATCH, timing_s=0.1)


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
        device=torch.device("cpu"),
        seed=0,
    )
    return Assets(Path(tempfile.mkdtemp(prefix="bench-check-")), data, kit)


class Subject:
    """A strategy under test, in the first configuration of its card's sweep, fitted once."""

    def __init__(self, name: str, registry: Registry) -> None:
        self.name, self.registry = name, registry
        self.cls = registry.get(name)
        self.strategy = registry.build(name, self.cls.card.sweep[0])

    def fit(self, seed: int = 0, strategy: Strategy[Any] | None = None) -> nn.Module:
        module: nn.Module = (strategy or self.strategy).fit(tiny_assets().kit_with(self.cls.card.assets, seed))
        return module

    @cached_property
    def model(self) -> nn.Module:
        return self.fit()

    def sample(self, model: nn.Module | None = None, seeds: Sequence[int] = range(BATCH), strategy: Strategy[Any] | None = None) -> Tensor:
        with torch.no_grad():
            images: Tensor = (strategy or self.strategy).sample(model or self.model, request(seeds))
        return images


def request(seeds: Sequence[int]) -> Request:
    """Digits with these image seeds; the label is the seed modulo ten."""
    numbers = torch.tensor(list(seeds))
    return Request(seeds=numbers, labels=numbers % 10, shape=(1, 8, 8), device=torch.device("cpu"), draws=lambda: SeededDraws(numbers))
