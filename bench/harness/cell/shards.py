"""Samples drawn so far, kept on disk until their cell has its record: what an interrupted run draws no second time.

<store>/shards/<cell id>/<weights>-<first>-<count>.safetensors: the images and what drawing them took. Shards belong to weights: those of a
model that was trained again, and came out otherwise, are not used.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.records.store import write_atomic

KEEP_EVERY_S = 30.0  # of drawing; shorter cells never touch the disk


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What drawing one batch took: seconds, and by network the rows and the calls."""

    seconds: float
    rows: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Samples `first`.. of a cell (count, C, H, W) uint8, on the CPU."""

    first: int
    images: Tensor
    taken: Taken

    @property
    def count(self) -> int:
        return len(self.images)


TAKEN = TypeAdapter(Taken)


class Shards:
    """The shards of one cell. `weights` is asked for only where there is something to read or to write."""

    def __init__(self, folder: Path, weights: Callable[[], str], every_s: float = KEEP_EVERY_S) -> None:
        self._folder, self._weights, self._every_s = folder, weights, every_s
        self._waiting: list[Shard] = []
        self._since = time.monotonic()

    def found(self) -> dict[int, Shard]:
        """The readable shards by their first sample, none over another."""
        if not self._folder.is_dir():
            return {}
        kept: dict[int, Shard] = {}
        end = 0
        for path in sorted(self._folder.glob(f"{self._weights()}-*.safetensors")):
            shard = self._read(path)
            if shard is not None and shard.first >= end:
                kept[shard.first], end = shard, shard.first + shard.count
        return kept

    def add(self, shard: Shard) -> None:
        """Keep a shard in memory, and all that wait on disk where the last writing is long ago."""
        self._waiting.append(shard)
        if time.monotonic() - self._since >= self._every_s:
            self.flush()

    def flush(self) -> None:
        for shard in self._waiting:
            path = self._folder / f"{self._weights()}-{shard.first:07d}-{shard.count}.safetensors"
            write_atomic(path, save({"images": shard.images.contiguous()}, {"taken": TAKEN.dump_json(shard.taken).decode()}))
        self._waiting.clear()
        self._since = time.monotonic()

    def _read(self, path: Path) -> Shard | None:
        """A shard, or None for a damaged file, whose samples are drawn again."""
        _, first, count = _named(path)
        with suppress(OSError, SafetensorError, ValidationError, KeyError):
            with safe_open(path, framework="pt") as file:
                shard = Shard(first=first, images=file.get_tensor("images"), taken=TAKEN.validate_json((file.metadata() or {})["taken"]))
            return shard if shard.count == count else None
        return None


def _named(path: Path) -> tuple[str, int, int]:
    """(weights, first, count) of a shard, which its file's name tells."""
    weights, first, count = path.stem.split("-")
    return weights, int(first), int(count)


def drawn_whole(folder: Path, first: int, count: int) -> bool:
    """Whether the files of one model's weights hold all of the samples `first`.., going by their names."""
    ends: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights, start, size = _named(path)
        if start <= ends.setdefault(weights, first):
            ends[weights] = max(ends[weights], start + size)
    return any(end >= first + count for end in ends.values())


def gaps(shards: Iterable[Shard], total: int) -> list[tuple[int, int]]:
    """The stretches (first, count) of samples 0..total that no shard holds."""
    found, at = [], 0
    for shard in sorted(shards, key=lambda s: s.first):
        if shard.first > at:
            found.append((at, shard.first - at))
        at = max(at, shard.first + shard.count)
    return [*found, (at, total - at)] if at < total else found
