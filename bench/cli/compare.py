"""The command `bench compare`: A against B, from records or after running what is missing, with an exit code that stops a regression."""

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from bench.cli import printing
from bench.cli.options import (
    DEFAULT_SUITE,
    Country,
    Data,
    Device,
    Download,
    Json,
    MaxMinutes,
    Out,
    Results,
    Seeds,
    WeightsOption,
    recorded,
    report_folder,
    resolve,
)
from bench.harness.run.stops import resumable
from bench.values import Record, UserError

if TYPE_CHECKING:
    from bench.harness.plan.cells import Options
    from bench.records.store import Store
    from bench.registry import Registry
    from bench.report.comparison.quantities import Kind
    from bench.suites.suite import Suite

BASELINE = "eds.representation.ddim"  # of a plug-in, where nobody names another


class Gate(StrEnum):
    """What the command fails on. Costs differ between most strategies by design, so that quality alone is the default."""

    QUALITY = "quality"
    COST = "cost"
    ANY = "any"

    @property
    def kinds(self) -> "tuple[Kind, ...]":
        from bench.report.comparison.quantities import Kind

        return tuple(Kind) if self is Gate.ANY else (Kind(self.value),)


@dataclass(frozen=True, kw_only=True)
class PairedRecords:
    """The records that a comparison draws from, each with its store, and what became of the cells where some were run first."""

    suite: str
    root: Path
    held: "list[tuple[Store, Record]]"
    counts: dict[str, int] | None = None


Ours = Annotated[Optional[str], typer.Argument(metavar="A", help="The candidate: NAME, or NAME[parameter=value, ...].", show_default=False)]
Theirs = Annotated[Optional[str], typer.Argument(metavar="B", help="The baseline, named alike.", show_default=False)]
OfSuite = Annotated[str, typer.Option("--suite", help="A suite's name, or a path to a TOML file.")]
GateOn = Annotated[Gate, typer.Option("--gate", help="In what a loss is a failure.")]
Margin = Annotated[float, typer.Option(min=0.0, help="Fraction of B's value within which a difference is a tie.")]
PluginFirst = Annotated[
    Optional[list[Path]],
    typer.Option(
        "--plugin",
        metavar="FILE",
        help=f"A Python file with a strategy of yours: what is missing runs first. Without A and B: it against {BASELINE}.",
    ),
]


def compare(
    ours: Ours = None,
    theirs: Theirs = None,
    suite: OfSuite = DEFAULT_SUITE,
    results: Results = None,
    gate: GateOn = Gate.QUALITY,
    margin: Margin = 0.0,
    out: Out = None,
    plugin: PluginFirst = None,
    seeds: Seeds = None,
    device: Device = None,
    max_minutes: MaxMinutes = None,
    data: Data = None,
    download: Download = False,
    inception_weights: WeightsOption = None,
    country: Country = None,
    as_json: Json = False,
) -> None:
    """Compare A with B: paired intervals, Holm-corrected verdicts, samples. Exit 1 where A is worse, 2 where nothing can be judged.

    From records alone; with --plugin what is missing runs first, as by `bench run`, and the options of a run apply.
    """
    a, b = sides(ours, theirs, plugin)
    if plugin:
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            asked = resolve(suite, None, plugin, seeds, data, download, inception_weights, country)
            evidence = run_missing(*asked, a, b, results, device, max_minutes)
    elif any((seeds, device, max_minutes, data, download, inception_weights, country)):
        raise UserError("--seeds, --device, --max-minutes, --data, --download, --inception-weights and --country go with --plugin")
    else:
        name, root, stores = recorded(suite, results)
        evidence = PairedRecords(suite=name, root=root, held=[(store, record) for store in stores for record in store.records()])
    judge(evidence, a, b, gate, margin, out or page_folder(evidence), as_json)


def page_folder(evidence: PairedRecords) -> Path:
    """Beside the reports of these records; a comparison of published records is the user's own, and goes where theirs lie."""
    from bench.records.store import LOCAL, PUBLISHED

    return report_folder(LOCAL if evidence.root == PUBLISHED else evidence.root, evidence.suite)


def sides(ours: str | None, theirs: str | None, plugin: list[Path] | None) -> tuple[str, str]:
    """The two names; where both are left out, the one plug-in and the baseline."""
    if ours and theirs:
        return ours, theirs
    if ours or plugin is None or len(plugin) != 1:
        raise UserError("name both sides: bench compare A B; they may be left out with one --plugin FILE alone")
    from bench.registry import USER

    return f"{USER}.{plugin[0].resolve().stem}", BASELINE


def run_missing(
    suite: "Suite",
    registry: "Registry",
    options: "Options",
    ours: str,
    theirs: str,
    results: Path | None,
    device: str | None,
    max_minutes: float | None,
) -> PairedRecords:
    """Say what is missing and what it will take, run it, and return the records of just these cells."""
    from rich.console import Console

    from bench.harness.machine import pick_device
    from bench.harness.plan.comparison import prepare
    from bench.harness.plan.forecast import upcoming
    from bench.harness.run.progress import Display
    from bench.harness.run.session import run
    from bench.records.store import LOCAL

    root, where = results or LOCAL, pick_device(device)
    contest = prepare(suite, registry, options, ours, theirs, root=root, device=where)
    cells, todo, taken = contest.cells, contest.todo, contest.taken
    done = len(cells) - len(todo) - len(taken)
    print(f"{ours} against {theirs}: {len(cells)} cells, {done} done, {len(taken)} taken from published records, {len(todo)} to run")
    for cell in todo:
        print(f"  to run: {cell.label}")
    printing.forecast(upcoming(todo, root, where, options.country))
    with resumable():
        outcome = run(
            contest.suite, registry, contest.options, root=root, device=where, max_minutes=max_minutes, display=Display(Console())
        )
    printing.kept_forecast(outcome.forecast_s.value, outcome.measured_s)
    counts = {"planned": len(cells), "reused": done, "published": len(taken)}
    counts |= {key: getattr(outcome, key) for key in ("ok", "failed", "not_started")}
    held = [(contest.store, record) for record in contest.records()]
    return PairedRecords(suite=suite.name, root=root, held=held, counts=counts)


def judge(evidence: PairedRecords, ours: str, theirs: str, gate: Gate, margin: float, out: Path, as_json: bool) -> None:
    """Print every pair's comparison, write the page into `out`, and exit by the gate."""
    from bench.report.comparison.matching import matches
    from bench.report.comparison.page import write
    from bench.report.comparison.verdicts import compare_all, regressions

    pairs = matches((record for _, record in evidence.held), ours, theirs)
    found = compare_all([(pair.ours, pair.theirs) for pair in pairs], margin)
    every = [c for comparisons in found for c in comparisons]
    homes = {(record.cell.id, record.provenance.device): store for store, record in evidence.held}
    page = write(evidence.suite, (ours, theirs), list(zip(pairs, found)), homes, out)
    if as_json:
        contests = [{"pair": p.title, "quantities": [dataclasses.asdict(c) for c in cs]} for p, cs in zip(pairs, found)]
        ran = {} if evidence.counts is None else {"run": evidence.counts}
        printing.as_json({"records": str(evidence.root), "page": str(page), **ran, "contests": contests})
    else:
        for pair, comparisons in zip(pairs, found):
            printing.comparisons(pair.title, comparisons)
        if len(pairs) > 1:
            printing.tallies(every, f"all {len(pairs)} pairs, ")
        print(f"records: {evidence.root}")
        print(f"page: {page.resolve()}")
    if regressions(every, gate.kinds):
        raise typer.Exit(1)
