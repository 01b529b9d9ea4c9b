"""What one device measured of one task, as points: a row of the leaderboard each, with the replicates that only records have."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import NamedTuple

from bench.cards import Heading
from bench.measures import Measure, missing
from bench.records.store import slug
from bench.report.leaderboard.board import Leaderboard, number, row_key
from bench.values import Record

SAMPLING, TRAINING = "wh", "train_kwh"
LOSSES = ("fid", "fd_")
FAR = 10.0
Replicates = Mapping[tuple[str, str], tuple[float, ...]]
"""By configuration and device."""


@dataclass(frozen=True)
class Point:
    """One configuration; `measures` by the key of the board's column."""

    strategy: str
    title: str
    heading: Heading
    configuration: str
    measures: Mapping[str, Measure]

    def has(self, key: str) -> bool:
        """Whether it was measured and a logarithmic axis can show it."""
        value = self.measures[key].value if key in self.measures else None
        return value is not None and value > 0

    def value(self, key: str) -> float:
        """Raises ValueError where it was not measured."""
        measure = self.measures[key]
        if measure.value is None:
            raise ValueError(measure.reason)
        return measure.value

    def ends(self, key: str) -> list[float]:
        """The value with the ends of its interval, as far as these are within a factor of three."""
        measure, value = self.measures[key], self.value(key)
        ends = [end for end in (measure.low, measure.high) if end is not None and value / 3 <= end <= 3 * value]
        return [value, *ends]


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The strategies' points of one device and task, best first, and the best control, its ceiling.

    `quality` is the key of the loss that ranks, `titles` are the columns'. All sampling energy is of one `source`. `suffix` tells the files
    of several devices apart.
    """

    device: str
    suffix: str
    quality: str
    titles: Mapping[str, str]
    source: str
    points: tuple[Point, ...]
    ceiling: Point | None

    def having(self, *keys: str) -> list[Point]:
        """The points that have all of these."""
        return [p for p in self.points if all(p.has(key) for key in keys)]

    def best(self, *keys: str) -> list[Point]:
        """Of each strategy the best configuration that has all of these, best first."""
        found: dict[str, Point] = {}
        for point in self.having(*keys):
            found.setdefault(point.strategy, point)
        return list(found.values())

    @cached_property
    def far(self) -> float:
        """The greatest loss that an axis shows: failures, beyond `FAR` times the median, would press all others together."""
        return FAR * median(p.value(self.quality) for p in self.having(self.quality))

    def inside(self, point: Point) -> bool:
        return point.value(self.quality) <= self.far

    def shown(self) -> list[float]:
        """The losses that an axis has to hold, with their intervals."""
        return [end for p in self.having(self.quality) if self.inside(p) for end in p.ends(self.quality)]

    def left_out(self) -> str:
        """What an axis leaves out, in words; empty where it leaves out nothing."""
        beyond = [p.value(self.quality) for p in self.having(self.quality) if not self.inside(p)]
        return f"above the axes: {len(beyond)} configuration{'s' * (len(beyond) > 1)}, up to {number(max(beyond))}" if beyond else ""


def clouds(board: Leaderboard, records: Iterable[Record]) -> list[Cloud]:
    """A cloud for each device; none of a board that is not ranked by a distance, lower being better."""
    if not board.columns or not board.columns[0].key.startswith(LOSSES):
        return []
    devices = sorted(set(board.info["device"]))
    replicates = _replicates(records, board.columns[0].key)
    return [_cloud(board, replicates, device, f"-{slug(device)}" if len(devices) > 1 else "") for device in devices]


def _cloud(board: Leaderboard, replicates: Replicates, device: str, suffix: str) -> Cloud:
    rows = [row for row in _rows(board, replicates) if row.device == device]
    sources = Counter(row.source for row in rows if row.point.has(SAMPLING)).most_common(1)
    source = sources[0][0] if sources else ""
    points = [row.of_source(source) for row in rows]
    quality = board.columns[0].key
    return Cloud(
        device=device,
        suffix=suffix,
        quality=quality,
        titles={c.key: c.title for c in board.columns},
        source=source.replace("_", " "),
        points=tuple(p for p in points if p.heading is not Heading.CONTROL),
        ceiling=next((p for p in points if p.heading is Heading.CONTROL and p.has(quality)), None),
    )


class _Row(NamedTuple):
    device: str
    source: str
    point: Point

    def of_source(self, source: str) -> Point:
        """The point without its energy of sampling where that is of another source: the two are not comparable."""
        if self.source == source:
            return self.point
        return replace(self.point, measures={**self.point.measures, SAMPLING: missing(f"measured differently: {self.source}")})


def _rows(board: Leaderboard, replicates: Replicates) -> Iterator[_Row]:
    """Every row of the board as a point."""
    columns = [
        [_measure(*parts) for parts in zip(*(frame[c.key].tolist() for frame in (board.values, board.lows, board.highs, board.reasons)))]
        for c in board.columns
    ]
    keys = [c.key for c in board.columns]
    for info, measures in zip(board.info.to_dict("records"), zip(*columns)):
        known = replicates.get((info["configuration"], info["device"]))
        found = dict(zip(keys, measures))
        if known and found[keys[0]].value is not None:
            found[keys[0]] = replace(found[keys[0]], replicates=known)
        point = Point(info["strategy"], info["title"], Heading(info["heading"]), info["configuration"], found)
        yield _Row(info["device"], info["energy_source"], point)


def _measure(value: float, low: float, high: float, reason: object) -> Measure:
    """From a cell of the board's frames, where NaN is nothing."""
    if math.isnan(value):
        return missing(str(reason))
    return Measure(value=value) if math.isnan(low) or math.isnan(high) else Measure(value=value, low=low, high=high)


def _replicates(records: Iterable[Record], key: str) -> Replicates:
    """Those of rows with one seed; over several seeds the row's interval says more, as it holds the training's spread."""
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for record in records:
        measure, row = record.scores.get(key), row_key(record)
        if measure is not None and measure.replicates:
            rows.setdefault((row.configuration, row.device), []).append(measure.replicates)
    return {name: found[0] for name, found in rows.items() if len(found) == 1}
