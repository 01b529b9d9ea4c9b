"""The page of a comparison: samples side by side, every quantity with its verdict, values by seed, devices and conditions. One file,
no request to anywhere, and the same bytes for the same records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader

from bench.cards import Generate, task_name
from bench.measures import Measure
from bench.records.store import Store, slug, write_atomic
from bench.report.comparison.matching import Match
from bench.report.comparison.text import row, tallies
from bench.report.comparison.verdicts import Comparison, Sides, Verdict, by_seed
from bench.report.leaderboard.board import code_state
from bench.report.leaderboard.columns import number
from bench.report.page.view import inside, uri
from bench.values import Record, UserError

Homes = Mapping[tuple[str, str], Store]
"""The store of each record, by cell id and device: cells of two devices may share an id."""

MARKS = {Verdict.BETTER: "▲", Verdict.WORSE: "▼", Verdict.TIE: "=", Verdict.INCONCLUSIVE: "?"}
REAL = "samples/real.png"
BAR = 140  # width in pixels: from -100 % to +100 % of |B|


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A relative difference and its interval along BAR, in pixels; what lies outside ends at the edge, `cut`."""

    low: float
    middle: float
    high: float
    cut: bool


@dataclass(frozen=True, kw_only=True)
class PageLine:
    """A quantity as the table shows it."""

    comparison: Comparison
    text: dict[str, str]
    bar: Bar | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One pair of configurations on the page. Grids by seed: A's data URI and B's, None where the store has no picture."""

    title: str
    names: tuple[str, str]
    task: str
    tallies: list[str]
    lines: list[PageLine]
    real: dict[str, str]
    grids: list[tuple[int, str | None, str | None]]
    params: list[tuple[str, str, str]]
    shared: dict[str, str]
    conditions: list[dict[str, str]]


def write(suite: str, asked: tuple[str, str], found: Sequence[tuple[Match, Sequence[Comparison]]], homes: Homes, out: Path) -> Path:
    """Write `compare-<a>-<b>.html` of these pairs into `out`; the two names are as a person asked for them."""
    path = out / f"compare-{'-'.join(slug(name) for name in asked)}.html"
    environment = Environment(loader=PackageLoader("bench.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    parts = [part(match, comparisons, homes) for match, comparisons in found]
    text = environment.get_template("compare.html.j2").render(
        suite=suite, asked=asked, parts=parts, marks=MARKS, bar_width=BAR, measure=_told
    )
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; --out names another folder") from error
    return path


def part(match: Match, comparisons: Sequence[Comparison], homes: Homes) -> Part:
    sides = by_seed(match.ours, match.theirs)
    a, b = sides[0]
    return Part(
        title=match.title,
        names=match.names,
        task=task_name(a.cell.workload.task),
        tallies=tallies(comparisons),
        lines=[PageLine(comparison=c, text=row(c), bar=bar(c)) for c in comparisons],
        real=_real(sides, homes),
        grids=[(x.cell.seed, _grid(x, homes), _grid(y, homes)) for x, y in sides],
        params=_params(a, b),
        shared=_shared(a),
        conditions=[_condition(side, r) for pair in sides for side, r in zip("AB", pair)],
    )


def bar(c: Comparison) -> Bar | None:
    """Where the difference and its interval lie, as fractions of |B|; None where there is no interval."""
    d = c.found
    if d.low is None or d.high is None or d.difference is None or not d.theirs:
        return None
    places = [(1 + x / abs(d.theirs)) * BAR / 2 for x in (d.low, d.difference, d.high)]
    low, middle, high = (round(min(max(x, 0.0), float(BAR)), 1) for x in places)
    return Bar(low=low, middle=middle, high=high, cut=places[0] < 0 or places[2] > BAR)


def _grid(record: Record, homes: Homes) -> str | None:
    """The record's samples as a data URI, from inside its own store alone."""
    store = homes.get((record.cell.id, record.provenance.device))
    path = inside(store, record.samples_png) if store and record.samples_png else None
    return uri(path) if path else None


def _real(sides: Sides, homes: Homes) -> dict[str, str]:
    """Real images of a task that shows none beside its samples, once."""
    a, _ = sides[0]
    store = homes.get((a.cell.id, a.provenance.device))
    path = inside(store, REAL) if store and isinstance(a.cell.workload.task, Generate) else None
    return {"Real images": uri(path)} if path else {}


def _params(a: Record, b: Record) -> list[tuple[str, str, str]]:
    """Every hyper-parameter of either side: name, A's value, B's; `-` where a side has no such parameter."""
    ours, theirs = ({key: str(value) for key, value in side.cell.params.items()} for side in (a, b))
    return [(key, ours.get(key, "-"), theirs.get(key, "-")) for key in sorted({*ours, *theirs})]


def _shared(record: Record) -> dict[str, str]:
    """What every seed of both sides has in common."""
    cell = record.cell
    budget = {name.replace("_", " "): value if isinstance(value, str) else f"{value:,}" for name, value in asdict(cell.budget).items()}
    return {"data set": cell.workload.dataset, **budget, "reference": cell.reference_hash, "protocol": str(cell.protocol)}


def _condition(side: str, record: Record) -> dict[str, str]:
    """On what a record was made, and the device's state around the timings."""
    made, state = record.provenance, record.provenance.conditions
    absent = "not recorded"

    def two(pair: Iterable[Measure]) -> str:
        return " → ".join(dict.fromkeys(map(_told, pair)))  # what stayed the same stands once

    return {
        "": f"{side}, seed {record.cell.seed}",
        "device": made.device,
        "host": made.host,
        "system": made.system,
        "started": made.started,
        "took (s)": number(made.wall_s),
        "energy from": str(record.sample.energy.source or absent) if record.sample else absent,
        "clock (MHz), before → after": two(state.clock_mhz) if state else absent,
        "temperature (°C)": two(state.temperature_c) if state else absent,
        "load": two(state.load) if state else absent,
        "throttled": _told(state.throttle) if state else absent,
        "other processes on the device": _told(state.foreign_processes) if state else absent,
        "code": code_state(record),
        "commit": made.git or absent,
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(made.versions.items())),
    }


def _told(measure: Measure) -> str:
    """The value with its interval, or why there is none."""
    if measure.value is None:
        return str(measure.reason)
    interval = f" ({number(measure.low)} to {number(measure.high)})" if measure.low is not None and measure.high is not None else ""
    return f"{number(measure.value)}{interval}"
