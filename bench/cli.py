"""The command line: `bench list | plan | run | status | report | check | survey | doctor`.

Nothing heavy is imported before a command needs it: help, status, report and survey never load torch.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from bench.values import UserError

app = typer.Typer(
    help="Compare efficiency strategies of diffusion models: quality and cost in one honest row.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
SuiteName = Annotated[str, typer.Argument(metavar="[SUITE]", help="A suite's name, or a path to a TOML file.")]
Plugins = Annotated[Optional[list[Path]], typer.Option("--plugin", metavar="FILE", help="A Python file with a strategy of yours.")]
Only = Annotated[Optional[str], typer.Option(metavar="NAMES", help="Comma-separated strategies.")]
Seeds = Annotated[Optional[str], typer.Option(metavar="NUMBERS", help="Comma-separated seeds, in place of the suite's.")]
Results = Annotated[Optional[Path], typer.Option(metavar="DIR", help="Where records lie; by default results/local.")]
Device = Annotated[Optional[str], typer.Option(help="cpu or cuda; by default CUDA where there is one.")]
Data = Annotated[Optional[Path], typer.Option(metavar="DIR", help="Folder that holds the data set.")]
Download = Annotated[bool, typer.Option("--download", help="Allow downloads of data and Inception weights.")]
Weights = Annotated[Optional[Path], typer.Option(metavar="FILE", help="torch-fidelity's Inception weights.")]
DEFAULT_SUITE = "digits"


def main() -> None:
    """Entry point: one line and exit code 2 for a fault of the input, 130 for Ctrl-C."""
    try:
        app()
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("bench: interrupted; finished cells are kept, run again to go on", file=sys.stderr)
        raise SystemExit(130) from None


@app.command("list")
def list_(plugin: Plugins = None, as_json: Json = False) -> None:
    """The registered strategies, and the plug-ins that could not be loaded."""
    from bench.registry import discover, origin

    registry = discover(plugin or ())
    found = [
        {"name": n, "title": c.card.title, "year": c.card.year, "saves": c.card.saves, "rows": c.card.rows, "origin": origin(c)}
        for n in registry
        for c in [registry.get(n)]
    ]
    problems = [dataclasses.asdict(p) for p in registry.problems]
    if as_json:
        return _json({"strategies": found, "problems": problems})
    _table(["Name", "Title", "Year", "Saves"], [[f["name"], f["title"], f["year"], f["saves"]] for f in found])
    for problem in problems:
        print(f"not loaded: {problem['origin']}: {problem['reason']}", file=sys.stderr)


@app.command()
def plan(
    suite: SuiteName = DEFAULT_SUITE,
    only: Only = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    device: Device = None,
    results: Results = None,
    data: Data = None,
    download: Download = False,
    inception_weights: Weights = None,
    as_json: Json = False,
) -> None:
    """The cells that `run` would compute, without computing them."""
    from bench.harness.environment import pick_device
    from bench.harness.plan import plan as planned
    from bench.harness.run import open_store
    from bench.harness.store import LOCAL

    chosen, registry, options = _setup(suite, only, plugin, seeds, data, download, inception_weights)
    cells = planned(chosen, registry, options)
    done = open_store(results or LOCAL, chosen, pick_device(device)).finished()
    found = [{"id": c.id, "cell": c.label, "state": "done" if c.id in done else "to do"} for c in cells]
    if as_json:
        return _json(found)
    _table(["Id", "Cell", "State"], [list(f.values()) for f in found])
    print(f"{len(cells)} cells, {sum(f['state'] == 'to do' for f in found)} to do")


@app.command()
def run(
    suite: SuiteName = DEFAULT_SUITE,
    only: Only = None,
    plugin: Plugins = None,
    seeds: Seeds = None,
    device: Device = None,
    results: Results = None,
    max_minutes: Annotated[Optional[float], typer.Option(help="Start no cell that cannot finish within this time.")] = None,
    data: Data = None,
    download: Download = False,
    inception_weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Run what is missing of a suite, then write and print its report. Run again to go on."""
    from rich.console import Console

    from bench.harness.environment import pick_device
    from bench.harness.run import run as run_suite
    from bench.harness.show import Display
    from bench.harness.store import LOCAL
    from bench.report.page import write

    chosen, registry, options = _setup(suite, only, plugin, seeds, data, download, inception_weights)
    root = results or LOCAL
    console = Console(stderr=as_json)
    outcome = run_suite(
        chosen,
        registry,
        options,
        root=root,
        device=pick_device(device),
        max_minutes=max_minutes,
        display=Display(console),
    )
    counts = {k: getattr(outcome, k) for k in ("planned", "reused", "ok", "failed", "not_started")}
    report_ = write(chosen.name, [outcome.store], report_folder(root, chosen.name)) if any(outcome.store.records()) else None
    if as_json:
        return _json({**counts, "records": str(outcome.store.folder), "report": str(report_.html) if report_ else None})
    if report_:
        _print_board(report_.board)
        print(f"report: {report_.html.resolve()}")
    print(", ".join(f"{value} {key.replace('_', ' ')}" for key, value in counts.items()))
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def status(suite: SuiteName = DEFAULT_SUITE, results: Results = None, as_json: Json = False) -> None:
    """What has become of each planned cell of a suite."""
    from bench.harness.store import LOCAL, parse, stores
    from bench.harness.suite import load
    from bench.values import Cell

    name = load(suite).name
    found = []
    for store in stores(results or LOCAL, name):
        records = {r.cell.id: r for r in store.records()}
        for cell in parse(list[Cell], store.folder / "plan.json"):
            record = records.get(cell.id)
            state = str(record.status) if record else "to do"
            found.append({"device": store.folder.name, "cell": cell.label, "state": state, "reason": record.reason if record else None})
    if as_json:
        return _json(found)
    if not found:
        raise UserError(f"no run of suite '{name}' under {results or LOCAL} yet; `bench run {name}` starts one")
    _table(["Device", "Cell", "State", "Reason"], [[v or "" for v in f.values()] for f in found])


@app.command()
def report(
    suite: SuiteName = DEFAULT_SUITE,
    results: Results = None,
    out: Annotated[Optional[Path], typer.Option(metavar="DIR", help="Where the report goes.")] = None,
    as_json: Json = False,
) -> None:
    """Rebuild tables, pictures and the HTML page of a suite from its records."""
    from bench.harness.store import LOCAL, PUBLISHED, stores
    from bench.harness.suite import load
    from bench.report.page import write

    name = load(suite).name
    roots = [results] if results else [LOCAL, PUBLISHED]
    root = next((r for r in roots if stores(r, name)), roots[-1])
    written = write(name, stores(root, name), out or report_folder(root, name))
    if as_json:
        return _json({"records": str(root), "files": [str(f) for f in written.files]})
    _print_board(written.board)
    print(f"records: {root}")
    print(f"report: {written.html.resolve()}")


@app.command()
def check(target: Annotated[str, typer.Argument(metavar="NAME|FILE")], as_json: Json = False) -> None:
    """Run the conformance checks on one strategy: a registered name, or a plug-in file."""
    from bench.registry import discover, load_file
    from bench.testing import check_all

    registry = discover()
    name = load_file(Path(target)) if target.endswith(".py") else target
    results = check_all(name, registry)
    if as_json:
        _json([dataclasses.asdict(r) for r in results])
    else:
        _table(["Check", "Result"], [[r.check, r.fault or "ok"] for r in results])
    if any(r.fault for r in results):
        raise typer.Exit(1)


@app.command()
def survey(results: Results = None, as_json: Json = False) -> None:
    """Every row of the survey's tables, its strategies here, and whether they are implemented and measured."""
    from bench.harness.store import PUBLISHED, published_strategies
    from bench.survey import rows
    from bench.survey import status as row_status

    measured = published_strategies(results or PUBLISHED)
    found = [
        {
            "id": r.id,
            "table": r.table,
            "group": r.group,
            "model": r.model,
            "strategies": list(r.strategies),
            "status": str(row_status(r, measured)),
        }
        for r in rows()
    ]
    if as_json:
        return _json(found)
    _table(["Row", "Table", "Group", "Model", "Strategies", "Status"], [[*list(f.values())[:4], ", ".join(f["strategies"]), f["status"]] for f in found])  # type: ignore[arg-type]


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine offers: device, packages, data sets, weights, energy source."""
    from bench.harness.doctor import examine

    found = examine()
    if as_json:
        return _json([dataclasses.asdict(f) for f in found])
    _table(["", "What", "Finding"], [["ok" if f.good else "--", f.what, f.finding] for f in found])


def report_folder(root: Path, suite: str) -> Path:
    """Published records report into reports/, everybody else's beside their own."""
    if root == Path("results"):
        return Path("reports") / suite
    return Path("reports/local") / suite if root == Path("results/local") else root / "reports" / suite


def _setup(
    suite: str,
    only: str | None,
    plugin: list[Path] | None,
    seeds: str | None,
    data: Path | None,
    download: bool,
    weights: Path | None,
) -> tuple[Any, Any, Any]:
    """(Suite, Registry, Options) from what the user said."""
    from bench.data.datasets import DataSource
    from bench.harness.plan import Options
    from bench.harness.suite import load
    from bench.registry import discover

    chosen = load(suite)
    plugins = tuple(path.resolve() for path in plugin or ())
    registry = discover(plugins)
    for problem in registry.problems:
        print(f"not loaded: {problem.origin}: {problem.reason}", file=sys.stderr)
    try:
        numbers = tuple(int(s) for s in seeds.split(",")) if seeds else None
    except ValueError:
        raise UserError(f"--seeds takes numbers with commas between, not '{seeds}'") from None
    names = tuple(n.strip() for n in only.split(",")) if only else ()
    source = DataSource(folder=data, download=download)
    return chosen, registry, Options(data=source, plugins=plugins, only=names, seeds=numbers, inception_weights=weights)


def _json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def _print_board(board: Any) -> None:
    from rich.console import Console

    from bench.report.tables import terminal

    console = Console()
    console.print(terminal(board)) if console.is_terminal else Console(width=200).print(terminal(board))


def _table(head: list[str], rows: list[list[object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*(str(cell).replace("[", "\\[") for cell in row))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)
