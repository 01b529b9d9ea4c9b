"""The command line: `bench list | plan | run | status | report | compare | check | survey | doctor | bundle | pack | merge`.

Nothing heavy is imported before a command needs it: help, status, report, compare and survey never load torch.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import printing
from bench.cli.compare import compare
from bench.cli.offline import bundle, merge, pack
from bench.cli.options import (
    DEFAULT_SUITE,
    Address,
    Country,
    Data,
    Device,
    Download,
    EngineName,
    Json,
    MaxMinutes,
    Only,
    Out,
    Plugins,
    Results,
    Seeds,
    SuiteName,
    WeightsOption,
    WhichCompute,
    WhichEngine,
    WhichTraining,
    Workers,
    device_of,
    divide,
    engine_of,
    recorded,
    report_folder,
    resolve,
)
from bench.harness.run.stops import resumable
from bench.values import UserError

app = typer.Typer(
    help="Compare efficiency strategies of diffusion models: quality and cost in one honest row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point: one line and exit code 2 for a fault of the input."""
    try:
        app()
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command("list")
def list_(plugin: Plugins = None, as_json: Json = False) -> None:
    """The registered strategies, and the plug-ins that could not be loaded."""
    from bench.registry import discover, origin

    registry = discover(plugin or ())
    cards = [(name, registry.get(name)) for name in registry]
    found = [
        {"name": n, "title": c.card.title, "year": c.card.year, "saves": c.card.saves, "rows": c.card.rows, "origin": origin(c)}
        for n, c in cards
    ]
    problems = [dataclasses.asdict(p) for p in registry.problems]
    if as_json:
        return printing.as_json({"strategies": found, "problems": problems})
    printing.table(["Name", "Title", "Year", "Saves"], [[f["name"], f["title"], f["year"], f["saves"]] for f in found])
    for problem in problems:
        print(f"not loaded: {problem['origin']}: {problem['reason']}", file=sys.stderr)


@app.command()
def plan(
    suite: SuiteName = DEFAULT_SUITE,
    only: Only = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    device: Device = None,
    workers: Workers = 1,
    results: Results = None,
    data: Data = None,
    download: Download = False,
    inception_weights: WeightsOption = None,
    country: Country = None,
    compute: WhichCompute = None,
    training: WhichTraining = None,
    as_json: Json = False,
) -> None:
    """The cells that `run` would compute and what they would cost, without computing them."""
    divide(workers)
    from bench.harness.plan.cells import plan as planned
    from bench.harness.plan.forecast import upcoming
    from bench.harness.run.session import open_store
    from bench.records.store import LOCAL

    chosen, registry, options = resolve(suite, only, plugin, seeds, data, download, inception_weights, country, compute, training)
    root, where = results or LOCAL, device_of(device, workers)
    done = open_store(root, chosen, where).finished()
    whole = planned(chosen, registry, options)
    cells = whole.cells
    expected = upcoming([c for c in cells if c.id not in done], root, where, country).over(workers)
    found = [{"id": c.id, "cell": c.label, "state": "done" if c.id in done else "to do"} for c in cells]
    if as_json:
        left_out = [dataclasses.asdict(s) for s in whole.skipped]
        return printing.as_json({"cells": found, "skipped": left_out, "forecast": dataclasses.asdict(expected)})
    printing.table(["Id", "Cell", "State"], [list(f.values()) for f in found])
    for skipped in whole.skipped:
        print(f"skipped {skipped}")
    print(f"{len(cells)} cells, {len(cells) - expected.cells} done")
    printing.forecast(expected)


@app.command()
def run(
    suite: SuiteName = DEFAULT_SUITE,
    only: Only = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    device: Device = None,
    results: Results = None,
    max_minutes: MaxMinutes = None,
    workers: Workers = 1,
    engine: WhichEngine = EngineName.LOCAL,
    address: Address = None,
    data: Data = None,
    download: Download = False,
    inception_weights: WeightsOption = None,
    country: Country = None,
    compute: WhichCompute = None,
    training: WhichTraining = None,
    as_json: Json = False,
) -> None:
    """Run what is missing of a suite, then write and print its report. Run again to go on."""
    divide(workers)
    from rich.console import Console

    from bench.harness.run.progress import Display
    from bench.harness.run.session import run as run_suite
    from bench.records.store import LOCAL
    from bench.report.page.write import write

    chosen, registry, options = resolve(suite, only, plugin, seeds, data, download, inception_weights, country, compute, training)
    root, where = results or LOCAL, device_of(device, workers)
    display = Display(Console(stderr=as_json))
    opened = engine_of(engine, address, workers)
    with resumable():
        outcome = run_suite(chosen, registry, options, root=root, device=where, max_minutes=max_minutes, display=display, engine=opened)
    counts = {key: getattr(outcome, key) for key in ("planned", "reused", "ok", "failed", "not_started")}
    written = write(chosen.name, [outcome.store], report_folder(root, chosen.name)) if any(outcome.store.records()) else None
    if as_json:
        page = str(written.html) if written else None
        took = {"forecast_s": outcome.forecast_s.value, "measured_s": outcome.measured_s}
        printing.as_json({**counts, **took, "records": str(outcome.store.folder), "report": page})
    else:
        if written:
            printing.leaderboards(written.boards)
        print(", ".join(f"{value} {key.replace('_', ' ')}" for key, value in counts.items()))
        printing.kept_forecast(outcome.forecast_s.value, outcome.measured_s)
        if written:
            print(f"report: {written.html.resolve()}")
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def status(suite: SuiteName = DEFAULT_SUITE, results: Results = None, as_json: Json = False) -> None:
    """What has become of each planned cell of a suite."""
    from bench.records.store import LOCAL, planned_states
    from bench.suites.suite import load

    name = load(suite).name
    found = planned_states(results or LOCAL, name)
    if as_json:
        return printing.as_json(found)
    if not found:
        raise UserError(f"no run of suite '{name}' under {results or LOCAL} yet; `bench run {suite}` starts one")
    printing.table(["Device", "Cell", "State", "Reason"], [list(f.values()) for f in found])


@app.command()
def report(suite: SuiteName = DEFAULT_SUITE, results: Results = None, out: Out = None, as_json: Json = False) -> None:
    """Rebuild tables, pictures and the HTML page of a suite from its records: your own, or else the published ones."""
    from bench.report.page.write import write

    name, root, stores = recorded(suite, results)
    written = write(name, stores, out or report_folder(root, name))
    if as_json:
        return printing.as_json({"records": str(root), "files": [str(f) for f in written.files]})
    printing.leaderboards(written.boards)
    print(f"records: {root}")
    print(f"report: {written.html.resolve()}")


app.command()(compare)
app.command()(bundle)
app.command()(pack)
app.command()(merge)


@app.command()
def check(target: Annotated[str, typer.Argument(metavar="NAME|FILE")], as_json: Json = False) -> None:
    """Run the conformance checks on one strategy: a registered name, or a plug-in file."""
    from bench.registry import discover, load_file
    from bench.testing import check_all

    registry = discover()
    results = check_all(load_file(Path(target)) if target.endswith(".py") else target, registry)
    if as_json:
        printing.as_json([dataclasses.asdict(r) for r in results])
    else:
        printing.table(["Check", "Result"], [[r.check, r.fault or "ok"] for r in results])
    if any(r.fault for r in results):
        raise typer.Exit(1)


@app.command()
def survey(results: Results = None, as_json: Json = False) -> None:
    """Every row of the survey's tables, its strategies here, and whether they are implemented and measured."""
    from bench.records.store import PUBLISHED, published_strategies
    from bench.survey import overview

    found = overview(published_strategies(results or PUBLISHED))
    if as_json:
        return printing.as_json(found)
    head = ["Row", "Table", "Group", "Model", "Strategies", "Status"]
    printing.table(head, [[", ".join(v) if isinstance(v, list) else v for v in f.values()] for f in found])


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine offers: device, packages, data sets, weights, energy source."""
    from bench.cli.doctor import examine

    found = examine()
    if as_json:
        return printing.as_json([dataclasses.asdict(f) for f in found])
    printing.table(["", "What", "Finding"], [["ok" if f.good else "--", f.what, f.finding] for f in found])
