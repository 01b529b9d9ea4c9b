"""Records on disk: one atomic JSON file a cell, the store is the truth. No torch.

<root>/<suite>/<device>/plan.json, records/<cell id>.json, samples/<cell id>.png
<root>/assets/<asset id>/model.safetensors, asset.json
"""

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.cards import Card
from bench.values import SCHEMA_VERSION, Cell, Provenance, Record, Status, UserError

LOCAL = Path("results/local")
PUBLISHED = Path("results")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """As much of a record as says what has become of its cell."""

    cell: Cell
    status: Status
    reason: str | None = None
    schema_version: int = SCHEMA_VERSION


RECORD = TypeAdapter(Record)
OUTCOME = TypeAdapter(Outcome)
R = TypeVar("R", Record, Outcome)


@dataclass(frozen=True, slots=True)
class Store:
    """The records of one suite on one device."""

    folder: Path

    def record_path(self, cell_id: str) -> Path:
        return self.folder / "records" / f"{cell_id}.json"

    def sample_path(self, cell_id: str) -> Path:
        return self.folder / "samples" / f"{cell_id}.png"

    def shard_folder(self, cell_id: str) -> Path:
        return self.folder / "shards" / cell_id

    def write(self, record: Record) -> None:
        write_atomic(self.record_path(record.cell.id), RECORD.dump_json(record, indent=1, exclude_none=True))

    def write_failed(self, cell: Cell, card: Card, status: Status, reason: str, made: Provenance) -> None:
        """A record without numbers: every cell has one, with its reason."""
        self.write(Record(cell=cell, card=card, status=status, reason=reason, inherited={}, scores={}, provenance=made))

    def finished(self) -> set[str]:
        """Ids of the cells with a readable OK record; a truncated record is set aside, so that its cell runs again."""
        done = set()
        for path in self._paths():
            try:
                record = read_record(path)
            except DamagedRecord:
                path.rename(path.with_suffix(".unreadable"))
                continue
            if record.status is Status.OK:
                done.add(record.cell.id)
        return done

    def stamp(self, cell_id: str) -> int | None:
        """Changes whenever the cell's record is written; None where it has none."""
        try:
            return self.record_path(cell_id).stat().st_mtime_ns
        except OSError:
            return None

    def records(self) -> Iterator[Record]:
        """All records; an unreadable one is a `UserError` that names its file."""
        return map(read_record, self._paths())

    def outcomes(self) -> Iterator[Outcome]:
        """What has become of each cell; an unreadable record is a `UserError` that names its file."""
        return map(read_outcome, self._paths())

    def _paths(self) -> list[Path]:
        return sorted((self.folder / "records").glob("*.json"))


class DamagedRecord(UserError):
    """A record that is truncated or holds what no version ever wrote."""


def read_record(path: Path) -> Record:
    """One record, checked field by field; a damaged file is a `DamagedRecord`, one of a newer schema a `UserError`."""
    return _read(RECORD, path)


def read_outcome(path: Path) -> Outcome:
    """What became of a record's cell, several times faster than the whole record; only this much of it is checked."""
    return _read(OUTCOME, path)


def _read(kind: "TypeAdapter[R]", path: Path) -> R:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _damaged(path, str(error)) from error
    try:
        found = kind.validate_json(raw)
    except ValidationError as error:
        _refuse_newer(path, _version(raw))
        raise _damaged(path, error.errors(include_url=False)[0]["msg"]) from error
    _refuse_newer(path, found.schema_version)
    return found


def _damaged(path: Path, why: str) -> DamagedRecord:
    return DamagedRecord(f"unreadable record {path}: {why}; delete it or run the suite again")


def _refuse_newer(path: Path, version: object) -> None:
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(f"record {path} has schema {version}; this version reads up to {SCHEMA_VERSION}")


def _version(raw: bytes) -> object:
    """The schema of a record that cannot be read, as far as it says: one of a newer schema may lack what this one wants."""
    with suppress(ValueError, AttributeError):
        return json.loads(raw).get("schema_version")
    return None


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside, flush to disk, rename: a reader sees the old file or the whole new one. No room, or no right, is a `UserError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _flush(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; what is finished is kept, run again to go on") from error


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def dump(kind: type[T] | Any, value: T) -> bytes:
    """Any value of ours as JSON."""
    return TypeAdapter(kind).dump_json(value, indent=1)


def parse(kind: type[T], path: Path) -> T:
    """A value of ours from a JSON file; a damaged one is a `UserError`."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"unreadable file {path}: {str(error).splitlines()[0]}") from error


def slug(text: str) -> str:
    """A folder name from a device name: `cpu-amd-epyc-2-cores`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def stores(root: Path, suite: str) -> list[Store]:
    """The suite's stores under a root, one a device, those with records."""
    return [Store(path.parent) for path in sorted((root / suite).glob("*/records")) if any(path.glob("*.json"))]


def readable(*roots: Path) -> list[Record]:
    """All records under these roots, `<root>/<suite>/<device>/records`; what cannot be read is passed over."""
    found = []
    for path in (p for root in roots for p in sorted(root.glob("*/*/records/*.json"))):
        with suppress(UserError):
            found.append(read_record(path))
    return found


def published_strategies(root: Path) -> set[str]:
    """Names of strategies with an OK record among the published ones, `<root>/<suite>/<device>/records`."""
    outcomes = map(read_outcome, sorted(root.glob("*/*/records/*.json")))
    return {outcome.cell.strategy for outcome in outcomes if outcome.status is Status.OK}


def planned_states(root: Path, suite: str) -> list[dict[str, str | None]]:
    """What has become of each cell of the last plan, a line a cell and device."""
    found: list[dict[str, str | None]] = []
    for folder in sorted(path.parent for path in (root / suite).glob("*/plan.json")):
        outcomes = {outcome.cell.id: outcome for outcome in Store(folder).outcomes()}
        for cell in parse(list[Cell], folder / "plan.json"):
            outcome = outcomes.get(cell.id)
            state, reason = (str(outcome.status), outcome.reason) if outcome else ("to do", None)
            found.append({"device": folder.name, "cell": cell.label, "state": state, "reason": reason})
    return found
