"""From records to pandas: one row per configuration and device, over seeds, with its interval, or its reason where empty."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import pandas as pd

from bench.cards import Generate, Task, task_name
from bench.identity.roots import strategy_hash
from bench.measures import Measure, missing
from bench.report.leaderboard.breakeven import Footprint, breakevens
from bench.report.leaderboard.columns import Column, Quality, breakeven_column, columns, is_limit, number, quality_key
from bench.report.leaderboard.from_record import (
    Getter,
    best_batches,
    cost,
    energy_per_image,
    energy_source,
    estimator,
    failure,
    half,
    score,
    training,
)
from bench.report.leaderboard.seeds import over_seeds, same_networks, within_bounds
from bench.survey import BUILT_IN, implemented
from bench.values import Record, Status, configuration

__all__ = [
    "Column",
    "Getter",
    "Leaderboard",
    "RowKey",
    "board",
    "by_task",
    "code_state",
    "columns",
    "comparable",
    "cost",
    "is_limit",
    "latest",
    "number",
    "quality_key",
    "row_key",
    "score",
    "training",
    "value_of",
]


FOOTPRINT = (training("energy.kwh"), energy_per_image("kwh"), cost("steps"))


class RowKey(NamedTuple):
    """What a row of the leaderboard is: seeds of one row are taken together, two devices never."""

    strategy: str
    configuration: str
    dataset: str
    device: str


@dataclass(frozen=True)
class Leaderboard:
    """The leaderboard of one task. All frames have one row per configuration and device, in the same order.

    `values`, `lows` and `highs` are floats, NaN where there is no value or no 95 % interval; `reasons` are texts; their columns are the
    keys of `columns`. `info` says what each row is.
    """

    info: pd.DataFrame
    values: pd.DataFrame
    lows: pd.DataFrame
    highs: pd.DataFrame
    reasons: pd.DataFrame
    columns: tuple[Column, ...]

    def text(self) -> pd.DataFrame:
        """Every cell as a person reads it: the number with its interval, `0.301 [0.28, 0.32]`, or the reason."""
        return self._shown(_interval)

    def numbers(self) -> pd.DataFrame:
        """As `text` without intervals, for narrow places."""
        return self._shown(lambda value, low, high: "")

    def _shown(self, interval: Callable[[str, str, str], str]) -> pd.DataFrame:
        shown: dict[str, list[str]] = {}
        for c in self.columns:
            texts = [[number(v, c.digits) for v in frame[c.key].tolist()] for frame in (self.values, self.lows, self.highs)]
            cells = zip(*texts, self.reasons[c.key].tolist())
            shown[c.title] = [str(why) if v == "nan" else v + interval(v, low, high) for v, low, high, why in cells]
            if c.beside is not None:
                shown[c.beside[1]] = [text.split(",")[0] for text in self.info[c.beside[0]]]  # an estimator's name, without its settings
        return pd.DataFrame(shown, index=self.values.index)


def latest(records: Iterable[Record], apart: Callable[[Record], object] = lambda _record: None) -> list[Record]:
    """Of each configuration, seed and device the newest record: an edited strategy leaves its older ones in the store.

    Records that differ in what `apart` says of them do not replace each other. Oldest first.
    """
    newest: dict[tuple[object, ...], Record] = {}
    for record in sorted(records, key=lambda r: r.provenance.started):
        cell = record.cell
        chosen = tuple(sorted(cell.shown.items()))  # not all parameters: a default that has changed makes no second configuration
        workload = (cell.workload.dataset, cell.workload.task)
        newest[cell.strategy, chosen, cell.seed, *workload, record.provenance.device, apart(record)] = record
    return sorted(newest.values(), key=lambda r: r.provenance.started)


def comparable(records: Iterable[Record]) -> list[Record]:
    """The newest of each configuration, seed and device, on the terms of its ranking's newest and by the code of its row's newest.

    The others were measured under another budget, reference or protocol: no table, mean or claim may set them beside these.
    """
    by_age = sorted(records, key=lambda r: r.provenance.started)
    terms = {_ranking(record): record.cell.terms for record in by_age}
    agreed = [record for record in by_age if record.cell.terms == terms[_ranking(record)]]
    code = {(row_key(record), _ranking(record)): record.cell.code_hash for record in agreed}
    return [record for record in latest(agreed) if record.cell.code_hash == code[row_key(record), _ranking(record)]]


def _ranking(record: Record) -> tuple[str, Task, str]:
    """Data set, task and device: two devices are never ranked together, and one may lack weights that a reference needs."""
    return record.cell.workload.dataset, record.cell.workload.task, record.provenance.device


def by_task(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the name of their task, `Generate` first: rows of two tasks never stand in one table."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (not isinstance(r.cell.workload.task, Generate), task_name(r.cell.workload.task))):
        found.setdefault(task_name(record.cell.workload.task), []).append(record)
    return found


def row_key(record: Record) -> RowKey:
    cell = record.cell
    return RowKey(cell.strategy, configuration(cell.strategy, cell.shown), cell.workload.dataset, record.provenance.device)


def board(records: list[Record]) -> Leaderboard:
    """The leaderboard of one task's records, OK and failed alike, best quality first, failures last with their reasons."""
    groups: dict[RowKey, list[Record]] = {}
    for record in records:
        groups.setdefault(row_key(record), []).append(record)
    found, baselines = breakevens({key: foot for key, group in groups.items() if (foot := footprint(key, group)) is not None})
    cols = (*columns(records), breakeven_column(lambda record: found[row_key(record)], set(baselines.values())))
    rows = {key: _row(cols, group) for key, group in groups.items()}
    info = pd.DataFrame([_info(key, group, baselines) for key, group in groups.items()])
    frames = {
        "values": _frame(cols, rows, lambda m: m.value).astype(float),
        "lows": _frame(cols, rows, lambda m: m.low).astype(float),
        "highs": _frame(cols, rows, lambda m: m.high).astype(float),
        "reasons": _frame(cols, rows, lambda m: m.reason),
    }
    order = frames["values"][cols[0].key].sort_values(na_position="last", kind="stable").index
    return Leaderboard(info=_sorted(info, order), **{name: _sorted(frame, order) for name, frame in frames.items()}, columns=cols)


def value_of(column: Column, record: Record) -> Measure:
    """A column's measure of one record; a record that is not OK answers with its status and reason."""
    return column.get(record) if record.status is Status.OK else missing(failure(record))


def footprint(key: RowKey, group: list[Record]) -> Footprint | None:
    """The energy of one row, over its seeds; None for a row without a finished record."""
    ok = [r for r in group if r.status is Status.OK]
    if not ok:
        return None
    train, image, steps = (over_seeds([get(r) for r in ok], same_models=False) for get in FOOTPRINT)
    return Footprint(
        name=key.configuration,
        strategy=key.strategy,
        place=(key.dataset, key.device),
        steps=steps.value,
        train_kwh=train,
        image_kwh=image,
        source=energy_source(ok[0]),
    )


def code_state(record: Record) -> str:
    """Whether the strategy's code is still the one that made the record."""
    now = _code_now(record.cell.strategy, tuple(record.cell.asset_ids))
    return "plug-in" if now is None else "current" if now == record.cell.code_hash else "older"


@cache
def _code_now(strategy: str, assets: tuple[str, ...]) -> str | None:
    """The hash of a built-in strategy's code and its assets'; None for a plug-in."""
    try:
        return strategy_hash(f"{BUILT_IN}.{strategy}", assets) if implemented(strategy) else None
    except LookupError:  # a shared part that exists no more
        return ""


def _interval(value: str, low: str, high: str) -> str:
    """Nothing where there is none, or none to be seen at this number of digits."""
    return "" if low == "nan" or low == value == high else f" [{low}, {high}]"


def _row(cols: Iterable[Column], group: list[Record]) -> dict[str, Measure]:
    same = same_networks(group)
    found = {c: over_seeds([value_of(c, r) for r in group], same_models=same and isinstance(c, Quality)) for c in cols}
    return {c.key: within_bounds(measure, c.bounds) for c, measure in found.items()}


def _frame(cols: Iterable[Column], rows: Mapping[RowKey, Mapping[str, Measure]], part: Callable[[Measure], object]) -> pd.DataFrame:
    """One part of each measure, rows by columns."""
    return pd.DataFrame({c.key: [part(row[c.key]) for row in rows.values()] for c in cols})


def _sorted(frame: pd.DataFrame, order: pd.Index) -> pd.DataFrame:
    return frame.loc[order].reset_index(drop=True)


def _info(key: RowKey, group: list[Record], baselines: Mapping[RowKey, str]) -> dict[str, object]:
    ok = [r for r in group if r.status is Status.OK]
    first = (ok or group)[0]
    return {
        "strategy": key.strategy,
        "configuration": key.configuration,
        "title": first.card.title,
        "half": half(first.card.heading),
        "heading": str(first.card.heading),
        "year": first.card.year,
        "dataset": key.dataset,
        "device": key.device,
        "code": code_state(first),
        "seeds": len({r.cell.seed for r in ok}),
        "status": str(first.status),
        "estimator": estimator(first),
        "best_batch": best_batches(group),
        "energy_source": energy_source(first),
        "baseline": baselines.get(key),
    }
