"""Taking in parcels: every member is looked at before anything is written, every record is checked, and none that is OK is replaced."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError, safe_open

from bench.measures import TrainCost
from bench.offline.parcels import COST, MODEL, PARCEL_BYTES, Kind, Names, kind_of, together
from bench.records.store import DamagedRecord, parse, read_record, write_atomic
from bench.values import Cell, Status, UserError


class Fate(StrEnum):
    """What became of a member: written, left as it is in the results folder, or not let in."""

    TAKEN = "taken"
    KEPT = "kept"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class MergeVerdict:
    """The fate of one file of a parcel, and the reason of a refusal."""

    parcel: Path
    name: str
    fate: Fate
    reason: str | None = None

    @property
    def kind(self) -> Kind:
        kind = kind_of(self.name)
        assert kind is not None, self.name
        return kind

    def __str__(self) -> str:
        return f"{self.fate}: {self.name} of {self.parcel}" + (f": {self.reason}" if self.reason else "")


def merge(parcels: Iterable[Path], results: Path) -> list[MergeVerdict]:
    """Take in what is new; running it again changes nothing.

    An OK record is never replaced, and neither is a sample or a checkpoint; a plan is, and so is a record that is not OK. A damaged file is
    refused by name, and the rest goes in. Raises UserError, before anything is written, for what is no parcel or holds more than results.
    """
    parcels = list(parcels)
    for parcel in parcels:
        opened(parcel)
    found = []
    for parcel in parcels:
        content = opened(parcel)
        for names in together(list(content)):
            fate, reason = _take({name: content[name] for name in names}, results)
            found += [MergeVerdict(parcel=parcel, name=name, fate=fate, reason=reason) for name in names]
    return found


def opened(parcel: Path) -> dict[str, bytes]:
    """The files of a parcel by name. One member that is not a regular file at a place of results makes the whole a `UserError`."""
    found: dict[str, bytes] = {}
    try:
        with gzip.open(parcel) as file:
            raw = file.read(PARCEL_BYTES + 1)
        if len(raw) > PARCEL_BYTES:
            raise UserError(f"{parcel} unpacks to more than {PARCEL_BYTES:,} bytes")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            for member in tar:
                fault = _fault(member, found)
                if fault:
                    raise UserError(f"{parcel} holds {member.name!r}, {fault}: nothing was taken")
                content = tar.extractfile(member)
                assert content is not None
                found[member.name] = content.read()
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{parcel} is no parcel, or damaged: {error}") from error
    return found


def _fault(member: tarfile.TarInfo, before: Mapping[str, bytes]) -> str | None:
    """Why a member cannot be let in. A sparse one could grow beyond what the archive holds."""
    if not member.isreg() or member.issparse():
        return "which is not a regular file"
    if kind_of(member.name) is None:
        return "which is no place of results"
    if member.size > PARCEL_BYTES:
        return f"which declares {member.size:,} bytes"
    return "twice" if member.name in before else None


def _take(whole: Mapping[str, bytes], results: Path) -> tuple[Fate, str | None]:
    """Write these files, unless they are there or damaged. A checkpoint's cost comes last: its presence says that the weights are whole."""
    if all((results / name).is_file() and (results / name).read_bytes() == content for name, content in whole.items()):
        return Fate.KEPT, None
    try:
        _check(whole)
    except (UserError, OSError) as error:
        return Fate.REFUSED, str(error)
    if _stays(tuple(whole), results):
        return Fate.KEPT, None
    for name in sorted(whole, key=lambda name: name.endswith(COST)):
        write_atomic(results / name, whole[name])
    return Fate.TAKEN, None


def _stays(names: Names, results: Path) -> bool:
    """Whether what lies in the results folder comes before what arrives."""
    match kind_of(names[0]):
        case Kind.PLAN:
            return False
        case Kind.RECORD:
            return _finished(results / names[0])
    return all((results / name).is_file() for name in names)


def _finished(path: Path) -> bool:
    """Whether an OK record lies there; one of a newer version is nobody's to replace."""
    try:
        return read_record(path).status is Status.OK
    except DamagedRecord:
        return False
    except UserError:
        return True


def _check(whole: Mapping[str, bytes]) -> None:
    """Read the files as they would be read in the results folder; a fault is a `UserError`."""
    with TemporaryDirectory() as spool:
        paths = {}
        for name, content in whole.items():
            path = paths[name.rsplit("/", 1)[1]] = Path(spool) / name.rsplit("/", 1)[1]
            path.write_bytes(content)
        try:
            _read(kind_of(next(iter(whole))), paths)
        except UserError as error:
            raise UserError(str(error).replace(f"{spool}/", "")) from error


def _read(kind: Kind | None, paths: Mapping[str, Path]) -> None:
    """One record, plan or sample, or both files of a checkpoint, by file name."""
    path = next(iter(paths.values()))
    match kind:
        case Kind.RECORD:
            record = read_record(path)
            if record.cell.id != path.stem:
                raise UserError(f"record {path.name} is of cell {record.cell.id}")
        case Kind.PLAN:
            parse(list[Cell], path)
        case Kind.ASSET:
            if paths.keys() != {MODEL, COST}:
                raise UserError(f"{' '.join(paths)} came without the other half of its checkpoint")
            parse(TrainCost, paths[COST])
            try:
                with safe_open(paths[MODEL], framework="numpy"):
                    pass  # header and length agree
            except (SafetensorError, OSError, ValueError) as error:
                raise UserError(f"unreadable checkpoint {MODEL}: {error}") from error
