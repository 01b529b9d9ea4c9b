"""From records to pandas: one row per configuration and device, seeds averaged, and beside every value its reason where it is empty."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from bench.cards import Generate, task_name
from bench.harness.codehash import code_hash
from bench.harness.suite import OWN
from bench.measures import NOT_RECORDED, Measure, measured, missing
from bench.survey import BUILT_IN, implemented
from bench.values import Record, Status, configuration

Getter = Callable[[Record], Measure]


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: how to get it, how to print it."""

    key: str
    title: str
    get: Getter
    digits: int = 3


@dataclass(frozen=True)
class Board:
    """`values` and `reasons` have one row per configuration and the same columns; `info` says what each row is."""

    info: pd.DataFrame
    values: pd.DataFrame
    reasons: pd.DataFrame
    columns: tuple[Column, ...]

    def text(self) -> pd.DataFrame:
        """Every cell as a person reads it: the number, or the reason."""
        shown = pd.DataFrame(index=self.values.index)
        for column in self.columns:
            cells = zip(self.values[column.key], self.reasons[column.key])
            shown[column.title] = [number(v, column.digits) if pd.notna(v) else str(r) for v, r in cells]
        return shown


def number(value: float, digits: int = 3) -> str:
    """Significant digits, thousands separated, no exponent between 1e-3 and 1e6."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        text = f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
        return text if "e" not in text else f"{value:,.0f}"
    return f"{value:.{digits}g}"


def quality_key(records: Iterable[Record]) -> str:
    """The measure that ranks: FID where some record has it, else the Frechet distance on the data set's own classifier."""
    found = list(records)
    if any(r.scores.get("fid", missing("-")).value is not None for r in found):
        return "fid"
    return next((f"fd_{r.cell.workload.dataset}" for r in found), "fid")


def score(key: str) -> Getter:
    return lambda r: r.scores.get(key, missing("not in this suite"))


def copied(record: Record) -> Measure:
    """The share of copies; records of suites with the own classifier lack it if they are older than the measure."""
    absent = NOT_RECORDED if OWN in record.cell.extractors else missing("not in this suite")
    return record.scores.get("copied", absent)


def scaled(get: Getter, factor: float) -> Getter:
    def scaled_get(record: Record) -> Measure:
        m = get(record)
        return m if m.value is None else measured(m.value * factor, n=m.n, method=m.method)

    return scaled_get


def cost(name: str, factor: float = 1.0) -> Getter:
    """A field of the sampling cost."""
    return scaled(lambda r: getattr(r.sample, name), factor)


def energy_per_thousand(field: str, factor: float) -> Getter:
    """kWh or kg of the sampling run, per 1000 images, times factor."""
    return lambda r: scaled(lambda q: getattr(q.sample.energy, field), factor * 1000 / r.cell.budget.n_samples)(r)  # type: ignore[union-attr]


def training(field: str) -> Getter:
    """A field of the training cost, own and inherited together; absent as soon as one part is."""

    def total(record: Record) -> Measure:
        parts = [getattr(cost, field) for cost in (record.train, *record.inherited.values())]
        empty = next((part for part in parts if part.value is None), None)
        return empty or measured(sum(part.value for part in parts))

    return total


def columns(records: list[Record]) -> tuple[Column, ...]:
    """The leaderboard's columns for these records: quality on every extractor they name, then cost."""
    keys = sorted({k for r in records for k in r.scores if k.startswith(("fid", "fd_"))}, key=_rank_of(records))
    quality = [Column(k, title_of(k), score(k)) for k in keys]
    return (
        *quality,
        *_faithful(records),
        Column("class_accuracy", "Class accuracy", score("class_accuracy")),
        Column("copied", "Copied", copied),
        Column("nll", "NLL bits/dim", score("nll_bits_per_dim")),
        Column("steps", "Steps", cost("steps"), 4),
        Column("nfe", "NFE/image", cost("nfe_per_image"), 4),
        Column("gflop", "GFLOP/image", cost("flops_per_image", 1e-9)),
        Column("gmac", "GMAC/image", cost("flops_per_image", 0.5e-9)),
        Column("params", "Parameters (M)", cost("params", 1e-6)),
        Column("p50_ms", "Latency p50 (ms)", cost("latency_p50_s", 1e3)),
        Column("p95_ms", "Latency p95 (ms)", cost("latency_p95_s", 1e3)),
        Column("images_per_s", "Images/s", cost("images_per_s")),
        Column("peak_mb", "Peak memory (MB)", cost("peak_bytes", 1e-6)),
        Column("wh", "Wh/1000 images", energy_per_thousand("kwh", 1e3)),
        Column("co2_g", "g CO2/1000 images", energy_per_thousand("co2_kg", 1e3)),
        Column("train_s", "Training (device s)", training("device_s")),
        Column("gpu_days", "Training (GPU-days)", training("gpu_days")),
        Column("v100_days", "Training (V100-days)", training("v100_days")),
    )


def _faithful(records: list[Record]) -> Iterator[Column]:
    """How near samples are to what they should look like, where the task says that."""
    known = {key for r in records for key in r.scores}
    for key, title in (("psnr", "PSNR (dB)"), ("ssim", "SSIM")):
        if key in known:
            yield Column(key, title, score(key))
    for key in sorted(k for k in known if k.startswith("feature_distance_")):
        yield Column(key, f"Feature distance {key.removeprefix('feature_distance_')}", score(key))


def title_of(key: str) -> str:
    """`FID`, `FD digits`; with a sign of infinity for the limit of infinitely many images."""
    name, _, extractor = key.replace("_infinity", "∞").partition("_")
    return f"{name.upper()} {extractor}".strip()


def is_limit(key: str) -> bool:
    return "_infinity" in key


def latest(records: Iterable[Record]) -> list[Record]:
    """Of each configuration, seed and device the newest record: an edited strategy leaves its older ones in the store."""
    newest: dict[tuple[object, ...], Record] = {}
    for record in sorted(records, key=lambda r: r.provenance.started):
        cell = record.cell
        chosen = tuple(sorted(cell.shown.items()))  # not all parameters: a default that has changed makes no second configuration
        newest[cell.strategy, chosen, cell.seed, cell.workload.dataset, cell.workload.task, record.provenance.device] = record
    return list(newest.values())


def by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the name of their task, `Generate` first: rows of two tasks never stand in one table."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (not isinstance(r.cell.workload.task, Generate), task_name(r.cell.workload.task))):
        found.setdefault(task_name(record.cell.workload.task), []).append(record)
    return found


def _rank_of(records: list[Record]) -> Callable[[str], tuple[bool, str]]:
    best = quality_key(records)
    return lambda key: (key != best, key)


def board(records: list[Record]) -> Board:
    """The leaderboard of one task's records, OK and failed alike, best quality first, failures last with their reasons."""
    cols = columns(records)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        cell = record.cell
        key: tuple[str, ...] = (cell.strategy, configuration(cell.strategy, cell.shown), cell.workload.dataset, record.provenance.device)
        groups.setdefault(key, []).append(record)
    info, values, reasons = [], [], []
    for key, group in groups.items():
        info.append(_info(key, group))
        measures = {c.key: [value_of(c, r) for r in group] for c in cols}
        values.append({k: _mean(m) for k, m in measures.items()})
        reasons.append({k: next((m.reason for m in ms if m.reason), None) for k, ms in measures.items()})
    order = ["info", "values", "reasons"]
    tables = dict(zip(order, (pd.DataFrame(rows) for rows in (info, values, reasons))))
    if tables["values"].empty:
        return Board(**tables, columns=cols)
    by = tables["values"][cols[0].key].sort_values(na_position="last", kind="stable").index
    return Board(**{k: t.loc[by].reset_index(drop=True) for k, t in tables.items()}, columns=cols)


def value_of(column: Column, record: Record) -> Measure:
    """A column's measure of one record; a record that is not OK answers with its status and reason."""
    if record.status is not Status.OK:
        return missing(f"{record.status}: {record.reason}")
    return column.get(record)


def _info(key: tuple[str, ...], group: list[Record]) -> dict[str, object]:
    first = group[0]
    ok = [r for r in group if r.status is Status.OK]
    return {
        "strategy": key[0],
        "configuration": key[1],
        "title": first.card.title,
        "heading": str(first.card.heading),
        "year": first.card.year,
        "dataset": key[2],
        "device": key[3],
        "code": code_state(first),
        "seeds": len({r.cell.seed for r in ok}),
        "status": str(first.status) if not ok else str(Status.OK),
    }


def code_state(record: Record) -> str:
    """Whether the strategy's code is still the one that made the record."""
    name = record.cell.strategy
    if not implemented(name):
        return "plug-in"
    return "current" if code_hash(f"{BUILT_IN}.{name}") == record.cell.code_hash else "older"


def _mean(measures: list[Measure]) -> float | None:
    numbers = [m.value for m in measures if m.value is not None]
    return sum(numbers) / len(numbers) if numbers else None
