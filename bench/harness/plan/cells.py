"""From a suite to its cells. Loads data and strategies, trains nothing."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.cards import Card, Params, Task, Video, task_name
from bench.data.datasets import DataSet, DataSource, load
from bench.harness.assets.trained import CLIP_CLASSIFIER, FEATURE_CLASSIFIER, asset_id, closure, depth
from bench.harness.plan.needs import lacking
from bench.hints import near
from bench.identity.roots import strategy_hash
from bench.metrics.source import Weights, sources
from bench.registry import USER, Registry
from bench.suites.suite import OWN, Suite
from bench.tasks.scenes import task_identity, unsupported
from bench.values import COMPUTE, Cell, Compute, UserError, Workload, digest

PROTOCOL = 2  # rises when the meaning of any measured number changes


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user says beside the suite."""

    data: DataSource = field(default_factory=DataSource)
    plugins: tuple[Path, ...] = ()
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    inception_weights: Path | None = None
    country: str | None = None
    compute: Compute | None = None


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A strategy that takes no part in a task of its card, and why."""

    strategy: str
    task: Task
    reason: str

    def __str__(self) -> str:
        return f"{self.strategy}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Cells in the order they run, those that share assets and fitted models side by side; and what was left out."""

    cells: list[Cell]
    skipped: list[Skipped]


def plan(suite: Suite, registry: Registry, options: Options) -> Plan:
    """Every configuration of the suite, on every task of its card, for every seed."""
    data = load(suite.dataset, options.data)
    references = cache(lambda task: reference_hash(suite, data, options, task))  # reads every extractor's weights
    cells: dict[str, Cell] = {}
    skipped = []
    for name, sweep in chosen(suite, registry, options).items():
        for task in registry.get(name).card.tasks[: suite.task_limit]:
            reason = unsupported(task, data) or lacking(registry.get(name).card, data, suite.budget)
            if reason is not None:
                skipped.append(Skipped(strategy=name, task=task, reason=reason))
                continue
            found = _cells(name, task, sweep, suite, registry, options, data, references(task))
            cells.update({cell.id: cell for cell in found})
    fits = {cell.id: fit_key(cell, registry.get(cell.strategy).card) for cell in cells.values()}
    first = {key: place for place, key in reversed(list(enumerate(fits.values())))}
    ordered = sorted(cells.values(), key=lambda c: (len(c.asset_ids), c.strategy, task_name(c.workload.task), c.seed, first[fits[c.id]]))
    return Plan(cells=ordered, skipped=skipped)


def _cells(
    name: str, task: Task, sweep: Sequence[Params], suite: Suite, registry: Registry, options: Options, data: DataSet, reference: str
) -> Iterator[Cell]:
    workload = Workload(dataset=suite.dataset, shape=data.shape, n_classes=data.n_classes, task=task)
    cls = registry.get(name)
    assets = _asset_ids(cls.card, data, suite)
    code = code_of(cls, assets)
    compute = options.compute or suite.compute
    marked = {} if compute is Compute.REFERENCE else {COMPUTE: str(compute)}
    for seed in options.seeds or suite.seeds:
        for overrides in sweep:
            yield Cell(
                strategy=name,
                params=complete(registry, name, overrides),
                shown={**overrides, **marked},
                workload=workload,
                budget=suite.budget,
                extractors=suite.extractors,
                seed=seed,
                code_hash=code,
                asset_ids=assets,
                reference_hash=reference,
                protocol=PROTOCOL,
                compute=compute,
            )


def fit_key(cell: Cell, card: Card) -> str:
    """The same for cells whose fitted model is one: they differ at most in what sampling alone reads."""
    fixed = {name: value for name, value in cell.params.items() if name not in card.sampling_fields}
    return digest([cell.strategy, fixed, str(cell.workload), str(cell.budget), cell.seed, cell.code_hash])


def chosen(suite: Suite, registry: Registry, options: Options) -> dict[str, tuple[Params, ...]]:
    """Strategies with their sweeps: the suite's, plus plug-ins; narrowed by `only`, which may also name others."""
    table = {name: registry.get(name).card.sweep for name in registry} if suite.strategies is None else dict(suite.strategies)
    for path in options.plugins:
        name = f"{USER}.{path.stem}"
        table.setdefault(name, registry.get(name).card.sweep)
    if options.only:
        table = {name: table.get(name, registry.get(name).card.sweep) for name in options.only}
    for name in table:
        registry.get(name)
    return {name: tuple(sweep)[: suite.sweep_limit] for name, sweep in table.items()}


def complete(registry: Registry, name: str, overrides: Params) -> Params:
    """All hyper-parameters of a configuration as plain values; refuses what the strategy refuses."""
    strategy = registry.build(name, overrides)
    plain: Params = TypeAdapter(type(strategy)).dump_python(strategy, mode="json")
    return plain


def code_of(cls: type[Any], assets: Iterable[str]) -> str:
    """The hash of a strategy's code and that of its assets; a plug-in's begins in its file."""
    if not cls.__module__.startswith(f"{USER}."):
        return strategy_hash(cls.__module__, assets)
    source = inspect.getsourcefile(cls) or sys.modules[cls.__module__].__file__
    assert source is not None
    return strategy_hash(Path(source), assets)


def reference_hash(suite: Suite, data: DataSet, options: Options, task: Task) -> str:
    """Hash of what quality is measured against: the reference images, the task, and each extractor's weights and resizing."""
    parts = {name: _extractor_identity(name, suite, data, options) for name in suite.extractors}
    if isinstance(task, Video):
        parts[CLIP_CLASSIFIER] = asset_id(CLIP_CLASSIFIER, data, suite.budget)
    return digest([data.hash, parts, *task_identity(task)])


def _extractor_identity(name: str, suite: Suite, data: DataSet, options: Options) -> str:
    """What stands for an extractor before it is loaded: its training, or its weights' file."""
    if name == OWN:
        return asset_id(FEATURE_CLASSIFIER, data, suite.budget)
    if name not in sources():
        raise UserError(f"unknown extractor '{name}'{near(name, [*sources(), OWN])}")
    return sources()[name].identity(Weights(inception=options.inception_weights))


def _asset_ids(card: Card, data: DataSet, suite: Suite) -> dict[str, str]:
    return {name: asset_id(name, data, suite.budget) for name in closure(card.assets)}


def asset_names(cells: list[Cell]) -> list[str]:
    """The assets that these cells need, each once, needed ones first."""
    wanted = {name for cell in cells for name in cell.asset_ids}
    if any(OWN in cell.extractors for cell in cells):
        wanted.add(FEATURE_CLASSIFIER)
    if any(isinstance(cell.workload.task, Video) for cell in cells):
        wanted.add(CLIP_CLASSIFIER)
    return sorted(wanted, key=lambda name: (depth(name), name))
