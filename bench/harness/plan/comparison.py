"""What two strategies need to be compared: a suite cut to their configurations, the cells that have no record yet, and those that have.

A published record serves where it is of the very cell: a cell's id hashes parameters, workload, budget, seed, code, assets, extractors,
reference and protocol, so that all of them agree, and the store is of the same device.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.cards import Params
from bench.harness.machine import device_name
from bench.harness.plan.cells import Options, chosen, complete, plan
from bench.harness.run.session import open_store
from bench.records.names import Wanted, nothing_agrees, nothing_in_common, pairs, wanted
from bench.records.store import PUBLISHED, Store, read_record, write_atomic
from bench.registry import Registry
from bench.suites.suite import Suite
from bench.values import Cell, Record, Status, UserError, configuration


@dataclass(frozen=True, kw_only=True)
class Contest:
    """`cells` are all that the two sides need, `todo` those without a finished record, `taken` those just taken from the published ones."""

    suite: Suite
    options: Options
    store: Store
    cells: list[Cell]
    todo: list[Cell]
    taken: list[Cell]

    def records(self) -> list[Record]:
        """Of these cells alone, named as they are named here: another sweep may have shown other parameters."""
        planned = {cell.id: cell for cell in self.cells}
        return [dataclasses.replace(r, cell=planned[r.cell.id]) for r in self.store.records() if r.cell.id in planned]


def prepare(suite: Suite, registry: Registry, options: Options, ours: str, theirs: str, *, root: Path, device: torch.device) -> Contest:
    """The contest of two sides, `NAME` or `NAME[key=value, ...]`; takes over the published records that serve. Runs nothing.

    Raises UserError, before anything has run, for names that mean nothing and for two sides that cannot be compared.
    """
    cut, only = narrowed(suite, registry, options, ours, theirs)
    cells, store = plan(cut, registry, only).cells, open_store(root, cut, device)
    taken = take_over(open_store(PUBLISHED, cut, device), store, cells, device_name(device))
    done = store.finished()
    return Contest(suite=cut, options=only, store=store, cells=cells, todo=[c for c in cells if c.id not in done], taken=taken)


def narrowed(suite: Suite, registry: Registry, options: Options, ours: str, theirs: str) -> tuple[Suite, Options]:
    """The suite with nothing but the configurations that will be compared."""
    sides = [wanted(text) for text in (ours, theirs)]
    names = [side.strategy(registry.classes, "is registered") for side in sides]
    tasks = [set(registry.get(name).card.tasks[: suite.task_limit]) for name in names]
    if not tasks[0] & tasks[1]:
        raise nothing_in_common(ours, theirs)
    sweeps = chosen(suite, registry, dataclasses.replace(options, only=tuple(names)))
    left, right = (_meant(registry, name, side, sweeps[name]) for name, side in zip(names, sides))
    met = pairs(left, right, lambda params: params)
    if not met:
        known = (configuration(name, params) for name, sweep in zip(names, (left, right)) for params in sweep)
        raise nothing_agrees(ours, theirs, known)
    table: dict[str, list[Params]] = {name: [] for name in names}
    for name, params in (side for pair in met for side in zip(names, pair)):
        if params not in table[name]:
            table[name].append(params)
    strategies = {name: tuple(sweep) for name, sweep in table.items()}
    limit = max(len(sweep) for sweep in strategies.values())
    cut = suite.model_copy(update={"strategies": strategies, "sweep_limit": limit})
    return cut, dataclasses.replace(options, only=tuple(strategies))


def take_over(published: Store, store: Store, cells: Iterable[Cell], device: str) -> list[Cell]:
    """Copy the finished published records of these cells, of this device, that the store lacks, and their samples; the cells copied."""
    done, taken = store.finished(), []
    for cell in cells:
        if cell.id in done or not published.record_path(cell.id).is_file():
            continue
        try:
            record = read_record(published.record_path(cell.id))
        except UserError:
            continue  # what cannot be read is run
        if record.status is not Status.OK or record.cell.id != cell.id or record.provenance.device != device:
            continue
        if published.sample_path(cell.id).is_file():
            write_atomic(store.sample_path(cell.id), published.sample_path(cell.id).read_bytes())
        store.write(record)
        taken.append(cell)
    return taken


def _meant(registry: Registry, name: str, side: Wanted, sweep: Iterable[Params]) -> list[Params]:
    """The suite's configurations that the brackets mean, or else the one that they describe."""
    found = [params for params in sweep if side.means(complete(registry, name, params))]
    if found:
        return found
    described = complete(registry, name, dict(side.chosen))
    return [{key: described[key] for key in side.chosen}]
