"""What a check is given: a strategy, fitted once on the digits at a budget of seconds.

The one fit and the one batch of images that the checks share are watched for what they do besides; a check of another fit makes its own.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.cards import AssetName
from bench.contract import Evaluation, Kit, LikelihoodStrategy, Request, Strategy, as_written
from bench.data.datasets import DataSource, load
from bench.harness.assets.trained import Assets
from bench.meters.calls import networks
from bench.registry import Registry
from bench.tasks.scenes import sample_shape, scene_of
from bench.testing.played import GPU, between_evaluations, played_gpu
from bench.values import Budget, Workload

T = TypeVar("T")
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


@dataclass(frozen=True)
class Watched(Generic[T]):
    """What a call gave, and what it did besides: shared assets that it changed or unfroze, random state that it moved, optimisers that
    stepped outside of `kit.evaluated`."""

    value: T
    changed: tuple[str, ...]
    unfrozen: tuple[str, ...]
    moved_random_state: bool
    steps_outside: tuple[str, ...]


def watched(call: Callable[[Evaluation], T]) -> Watched[T]:
    """Call with a way to evaluate networks that is as written. The shared assets are trained before, and not by, the call."""
    before = {name: _state(tiny_assets().get(name).module) for name in AssetName}
    torch.manual_seed(7)  # another state than that in which a check repeats the call
    random_state = torch.get_rng_state()
    with steps_outside() as (outside, evaluated):
        value = call(evaluated)
    moved = not torch.equal(random_state, torch.get_rng_state())
    modules = {str(name): tiny_assets().get(name).module for name in AssetName}
    return Watched(
        value,
        changed=tuple(name for name, module in modules.items() if not _same(before[AssetName(name)], module.state_dict())),
        unfrozen=tuple(name for name, module in modules.items() if any(p.requires_grad for p in module.parameters())),
        moved_random_state=moved,
        steps_outside=tuple(outside),
    )


@contextmanager
def steps_outside() -> Iterator[tuple[list[str], Evaluation]]:
    """The kinds of optimisers that step while no network is being evaluated by the `Evaluation` that is given with them."""
    depth, outside = [0], list[str]()

    @contextmanager
    def evaluated(_net: nn.Module) -> Iterator[None]:
        depth[0] += 1
        yield
        depth[0] -= 1

    def stepping(optimiser: torch.optim.Optimizer, *_: object) -> None:
        if not depth[0]:
            outside.append(type(optimiser).__name__)

    handle = register_optimizer_step_pre_hook(stepping)
    try:
        yield outside, evaluated
    finally:
        handle.remove()


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def _same(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(before[key], after[key]) for key in after)


def first_on_gpu(made: Callable[[], "Subject"]) -> tuple[Tensor, Sequence[str]]:
    """The images of a subject made on the GPU that the processor plays; what makes the host wait for it between the evaluations."""
    images: list[Tensor] = []
    with played_gpu() as waits:
        subject = made()
        found = between_evaluations(networks(subject.model).values(), lambda: images.append(subject.sample()), waits)
    return images[0], found


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
    def fitted(self) -> Watched[nn.Module]:
        """The fit that the checks share."""
        return watched(lambda evaluated: self.fit(evaluated=evaluated))

    @property
    def model(self) -> nn.Module:
        return self.fitted.value

    @cached_property
    def drawn(self) -> Watched[Tensor]:
        """The first images of the shared model."""
        model = self.model
        return watched(lambda _: self.sample(model))

    @cached_property
    def drawn_on_gpu(self) -> tuple[Tensor, Sequence[str]]:
        assert self.model is not None  # the shared assets are trained by now, on the processor
        return first_on_gpu(lambda: self.on_gpu)

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
