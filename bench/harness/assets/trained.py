"""Shared trained parts: trained once per workload and budget, cached by content as safetensors, priced."""

import pkgutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from bench.cards import AssetName
from bench.contract import Kit, Progress
from bench.data.datasets import DataSet
from bench.harness.assets.compiled import trained
from bench.harness.machine import device_name
from bench.harness.memory import out_of_memory
from bench.identity.roots import recipe_hash
from bench.measures import TrainCost, measured
from bench.meters.energy.carbon import WORLD, Place
from bench.meters.energy.meter import energy_meter
from bench.meters.gpudays import gpu_days, v100_days
from bench.meters.latency import synchronise
from bench.meters.memory import peak_memory
from bench.nets.ema import frozen
from bench.records.store import dump, parse, write_atomic
from bench.training import recipes
from bench.training.recipe import Recipe
from bench.values import Budget, Compute, UserError, digest

FEATURE_CLASSIFIER = "feature_classifier"  # belongs to the metrics; no strategy can ask for it
CLIP_CLASSIFIER = "clip_classifier"  # nor for this
INSTRUMENTS = (FEATURE_CLASSIFIER, CLIP_CLASSIFIER)  # always trained as written, so that quality is measured alike
ASSET_SEED = 0
WEIGHTS = "model.safetensors"
ASSET = "asset.json"  # the cost, written last: its presence says that the weights are whole


RECIPES: dict[str, Recipe] = {
    module.name: import_module(f"{recipes.__name__}.{module.name}").RECIPE for module in pkgutil.iter_modules(recipes.__path__)
}


def depth(name: str) -> int:
    """1 for an asset that needs none, else one more than the deepest that it needs."""
    return 1 + max(map(depth, RECIPES[name].needs), default=0)


def closure(names: Iterable[str]) -> tuple[str, ...]:
    """The assets and all that they need, each once, needed ones first: what their user inherits the cost of."""
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys((*closure(RECIPES[name].needs), str(name))))
    return tuple(found)


def asset_id(name: str, data: DataSet, budget: Budget) -> str:
    """What an asset's weights depend on: data, training budget, training code, and the assets it needs."""
    needs = [asset_id(need, data, budget) for need in RECIPES[name].needs]
    fast = [] if _training(name, budget) is Compute.REFERENCE else [str(budget.training)]
    training = [budget.train_images, budget.train_batch, budget.width, ASSET_SEED, *fast]
    return digest([str(name), data.hash, training, recipe_hash(name), needs])


def _training(name: str, budget: Budget) -> Compute:
    return Compute.REFERENCE if name in INSTRUMENTS else budget.training


@dataclass(frozen=True)
class Asset:
    module: nn.Module
    cost: TrainCost


class Assets:
    """Load-or-train access to the assets of one workload and budget."""

    def __init__(self, folder: Path, data: DataSet, kit: Kit, place: Place = WORLD) -> None:
        self._folder, self._data, self._kit, self._place = folder, data, kit, place
        self._loaded: dict[str, Asset] = {}
        self.mended: dict[str, str] = {}  # name -> what was wrong with the checkpoint that was trained again

    def get(self, name: str) -> Asset:
        """The asset, from memory, from disk, or trained now. A damaged checkpoint is set aside and trained again."""
        if name not in self._loaded:
            self._loaded[name] = self._from_disk(name) or _train(name, self.folder(name), self._kit_for(name), self._place)
        return self._loaded[name]

    def told(self) -> str | None:
        """What was mended since this was last asked."""
        said = "; ".join(self.mended.values())
        self.mended.clear()
        return said or None

    def folder(self, name: str) -> Path:
        return self._folder / asset_id(name, self._data, self._kit.budget)

    def _kit_for(self, name: str) -> Kit:
        kit = self.kit_with(RECIPES[name].needs)
        return replace(kit, budget=replace(kit.budget, training=_training(name, kit.budget)))

    def _from_disk(self, name: str) -> Asset | None:
        folder = self.folder(name)
        if not (folder / ASSET).is_file():
            return None
        try:
            return _load(name, folder, self._kit_for(name))
        except DamagedAsset as damage:
            aside = folder.with_name(f"{folder.name}.unreadable-{time.time_ns()}")
            folder.rename(aside)
            self.mended[name] = f"{damage}; set aside as {aside.name} and trained again"
            return None

    def kit_with(self, names: tuple[AssetName, ...], seed: int = ASSET_SEED) -> Kit:
        """The base kit offering these assets and no others."""
        return replace(self._kit, seed=seed, assets={name: partial(self._module, name) for name in names})

    def _module(self, name: str) -> nn.Module:
        return self.get(name).module


class SeenImages:
    """A `Progress` that adds up training images over all phases of a fit, and passes the word on."""

    def __init__(self, onward: Progress) -> None:
        self.total, self._phase, self._done, self._onward = 0, "", 0, onward

    def __call__(self, what: str, done: int, total: int) -> None:
        self.total += done - (self._done if what == self._phase else 0)
        self._phase, self._done = what, done
        self._onward(what, done, total)


def priced(run: Callable[[Kit], nn.Module], kit: Kit, place: Place) -> Asset:
    """Run a training, its networks evaluated as the budget says, and price it: images, device time, energy, memory."""
    seen = SeenImages(kit.progress)
    with (
        trained(kit.budget.training, kit.device) as evaluated,
        energy_meter(kit.device, place=place) as energy,
        peak_memory(kit.device) as peak,
    ):
        begin = time.perf_counter()
        module = run(replace(kit, progress=seen, evaluated=evaluated))
        synchronise(kit.device)
        seconds = time.perf_counter() - begin
    cost = TrainCost(
        images_seen=measured(seen.total, method="counted"),
        device_s=measured(seconds),
        gpu_days=gpu_days(seconds, device_name(kit.device)),
        peak_bytes=peak.growth,
        peak_total_bytes=peak.total,
        energy=energy.energy,
        v100_days=v100_days(seconds, device_name(kit.device)),
    )
    return Asset(module, cost)


def _train(name: str, folder: Path, kit: Kit, place: Place) -> Asset:
    recipe = RECIPES[name]
    asset = priced(lambda k: recipe.fit(recipe.build(k), k, f"asset {name}"), kit, place)
    state = {key: value.contiguous().cpu() for key, value in asset.module.state_dict().items()}
    write_atomic(folder / WEIGHTS, save(state))
    write_atomic(folder / ASSET, dump(TrainCost, asset.cost))
    return asset


class DamagedAsset(Exception):
    """A checkpoint, or the file of its cost, that cannot be read."""


def _load(name: str, folder: Path, kit: Kit) -> Asset:
    """Raises DamagedAsset."""
    path = folder / WEIGHTS
    try:
        cost = parse(TrainCost, folder / ASSET)
        module = RECIPES[name].build(kit)
        module.load_state_dict(load_file(path, device=str(kit.device)))
    except UserError as error:
        raise DamagedAsset(str(error)) from error
    except (OSError, SafetensorError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise DamagedAsset(f"unreadable checkpoint {path}: {str(error).splitlines()[0]}") from error
    return Asset(frozen(module), cost)
