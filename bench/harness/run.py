"""Running a suite: plan, skip what is done, prepare assets, run the cells, keep going whatever happens to one of them."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.data.datasets import load
from bench.harness.engines.local import LocalEngine
from bench.harness.environment import device_name
from bench.harness.execute import provenance
from bench.harness.forecast import upcoming
from bench.harness.plan import Options, asset_names, plan
from bench.harness.samples import save_real
from bench.harness.show import Display
from bench.harness.store import Store, dump, slug, write_atomic
from bench.harness.suite import Suite
from bench.harness.worker import AssetJob, CellJob, Setup, failed
from bench.measures import Measure, missing
from bench.registry import Registry
from bench.values import Cell, Status


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Counts of cells by what became of them, where the records lie, and seconds: as forecast, and as they were."""

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
) -> Outcome:
    """Run what is missing. Cells without an OK record run, failed ones again; each leaves a record at once."""
    planned = plan(suite, registry, options)
    cells = planned.cells
    display.skipped(planned.skipped)
    store = open_store(root, suite, device)
    write_atomic(store.folder / "plan.json", dump(list[Cell], cells))
    save_real(load(suite.dataset, options.data), store.sample_path("real"))
    done = store.finished()
    todo = [cell for cell in cells if cell.id not in done]
    deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
    clock = Clock(deadline, 60 * suite.cell_minutes, _history(store))
    setup = Setup(device=str(device), options=options, assets=root / "assets", store=store.folder)
    counts = {Status.OK: 0}
    started = 0
    expected = upcoming(todo, root, device, options.country).seconds if todo else missing("nothing to do")
    begin = time.monotonic()
    engine = LocalEngine(setup)
    try:
        with display.suite(suite, len(cells), len(cells) - len(todo)):
            if todo:
                _prepare(engine, todo, clock, display)
            for cell in todo:
                limit = clock.limit(cell)
                if limit is None:
                    continue
                started += 1
                status = _run_cell(engine, cell, limit, registry, store, device, display)
                counts[status] = counts.get(status, 0) + 1
    finally:
        engine.close()
    return Outcome(
        store=store,
        forecast_s=expected,
        measured_s=time.monotonic() - begin,
        planned=len(cells),
        reused=len(cells) - len(todo),
        ok=counts[Status.OK],
        failed=started - counts[Status.OK],
        not_started=len(todo) - started,
    )


@dataclass(frozen=True)
class Clock:
    """The run's deadline, the limit of a cell, and how long configurations took before."""

    deadline: float | None
    cell_s: float
    history: dict[str, float]

    def limit(self, cell: Cell) -> float | None:
        """Seconds that a cell may take; None where the deadline leaves less than it took before."""
        if self.deadline is None:
            return self.cell_s
        left = self.deadline - time.monotonic()
        needed = self.history.get(cell.strategy, 1.0)
        return None if left < needed else min(self.cell_s, left)


def _history(store: Store) -> dict[str, float]:
    """Longest wall time of each strategy's OK cells so far."""
    longest: dict[str, float] = {}
    for record in store.records():
        if record.status is Status.OK:
            name = record.cell.strategy
            longest[name] = max(longest.get(name, 0.0), record.provenance.wall_s)
    return longest


def _prepare(engine: LocalEngine, todo: list[Cell], clock: Clock, display: Display) -> None:
    """Train or load the assets, each a job of its own with its own bar; a failure is told, and then met by the cells that need it."""
    for name in asset_names(todo):
        user = next((cell for cell in todo if name in cell.asset_ids), todo[0])
        limit = clock.limit(user)
        if limit is None:
            return
        begin = time.perf_counter()
        with display.job(f"asset {name}") as on_tick:
            outcome = engine.run(AssetJob(name, user), limit, on_tick)
        took = time.perf_counter() - begin
        display.line(f"  asset {name}: {outcome.status}, {took:.1f} s" + (f": {outcome.reason}" if outcome.reason else ""))


def _run_cell(
    engine: LocalEngine, cell: Cell, limit: float, registry: Registry, store: Store, device: torch.device, display: Display
) -> Status:
    started, begin = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    with display.job(cell.label) as on_tick:
        outcome = engine.run(CellJob(cell), limit, on_tick)
    wall = time.perf_counter() - begin
    if outcome.status in (Status.KILLED, Status.TIMEOUT):
        card = registry.get(cell.strategy).card
        made = provenance(device, started, wall)
        store.write(failed(cell, card, outcome.status, outcome.reason or "no reason given", made))
    display.cell_done(cell, outcome.status, outcome.reason, wall)
    return outcome.status
