"""Running a suite: plan, skip what is done, prepare assets, run the cells, keep going whatever happens to one of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.datasets import load
from bench.harness.cell.grid import save_real
from bench.harness.machine import device_name
from bench.harness.plan.cells import Options, plan
from bench.harness.plan.forecast import upcoming
from bench.harness.run.engine import Engine
from bench.harness.run.engines.local import local_engine
from bench.harness.run.leases import Leases
from bench.harness.run.messages import Setup
from bench.harness.run.progress import Display
from bench.harness.run.runner import Clock, Runner
from bench.measures import Measure, missing
from bench.records.store import Store, dump, slug, write_atomic
from bench.registry import Registry
from bench.suites.suite import Suite
from bench.values import Cell, Status


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """Counts of cells by what became of them, where the records lie, and seconds: as forecast, and as they were.

    Cells that another runner finished meanwhile count as reused.
    """

    store: Store
    forecast_s: Measure
    measured_s: float
    planned: int
    reused: int
    ok: int
    failed: int
    not_started: int


def open_store(root: Path, suite: Suite, device: torch.device) -> Store:
    return Store(root / suite.name / slug(device_name(device)))


def run(
    suite: Suite,
    registry: Registry,
    options: Options,
    *,
    root: Path,
    device: torch.device,
    max_minutes: float | None,
    display: Display,
    engine: Callable[[Setup], Engine] = local_engine,
) -> RunOutcome:
    """Run what is missing. Cells without an OK record run, failed ones again; each leaves a record at once."""
    planned = plan(suite, registry, options)
    cells = planned.cells
    display.skipped(planned.skipped)
    store = open_store(root, suite, device)
    write_atomic(store.folder / "plan.json", dump(list[Cell], cells))
    save_real(load(suite.dataset, options.data), store.sample_path("real"))
    done = store.finished()
    todo = [cell for cell in cells if cell.id not in done]
    expected = upcoming(todo, root, device, options.country) if todo else None
    begin = time.monotonic()
    deadline = None if max_minutes is None else begin + 60 * max_minutes
    setup = Setup(device=str(device), options=options, assets=root / "assets", store=store.folder)
    clock = Clock(deadline, 60 * suite.cell_minutes, _history(store))
    runner = Runner(setup, store, registry, clock, Leases(root / "leases"), display, todo)
    with display.suite(suite, len(cells), len(cells) - len(todo)):
        opened = engine(setup)
        slots = opened.slots
        runner.work(opened)
    return RunOutcome(
        store=store,
        forecast_s=expected.over(slots).seconds if expected else missing("nothing to do"),
        measured_s=time.monotonic() - begin,
        planned=len(cells),
        reused=len(cells) - len(todo) + runner.elsewhere,
        ok=runner.ok,
        failed=runner.failed,
        not_started=len(todo) - runner.elsewhere - runner.ok - runner.failed,
    )


def _history(store: Store) -> dict[str, float]:
    """Longest wall time of each strategy's OK cells so far."""
    longest: dict[str, float] = {}
    for record in store.records():
        if record.status is Status.OK:
            name = record.cell.strategy
            longest[name] = max(longest.get(name, 0.0), record.provenance.wall_s)
    return longest
