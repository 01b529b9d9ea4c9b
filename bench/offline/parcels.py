"""Results on their way home: plans, records, samples and checkpoints in a few files of limited size. No torch.

A parcel is a tar archive of regular files at the places that a results folder has, gzipped for the checksum. Its limit holds for the tar,
so that whoever opens one knows how much may come out.
"""

import gzip
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.records.store import write_atomic
from bench.values import UserError

PARCELS = 8
PARCEL_BYTES = 16_000_000
ASSETS, MODEL, COST = "assets", "model.safetensors", "asset.json"
Names = tuple[str, ...]


class Kind(StrEnum):
    """What travels, what matters most first."""

    PLAN = "plans"
    RECORD = "records"
    SAMPLE = "samples"
    ASSET = "checkpoints"


_STORE = rf"(?!{ASSETS}/)[^./\\\0-\x1f][^/\\\0-\x1f]*/[a-z0-9-]+"  # <suite>/<device>
PLACES = {
    Kind.PLAN: re.compile(rf"{_STORE}/plan\.json"),
    Kind.RECORD: re.compile(rf"{_STORE}/records/[0-9a-f]{{16}}\.json"),
    Kind.SAMPLE: re.compile(rf"{_STORE}/samples/([0-9a-f]{{16}}|real)\.png"),
    Kind.ASSET: re.compile(rf"{ASSETS}/[0-9a-f]{{16}}/({re.escape(MODEL)}|{re.escape(COST)})"),
}


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The parcels written, and what had no room in them: relative names with bytes."""

    files: list[Path]
    left_out: dict[Names, int]


def kind_of(name: str) -> Kind | None:
    """What lies at this path, relative to a results folder with `/` between; None where nothing of ours does."""
    return next((kind for kind, place in PLACES.items() if place.fullmatch(name)), None)


def together(names: Sequence[str]) -> list[Names]:
    """What travels as one: a checkpoint with its cost, neither of use alone, and every other file by itself. In order of kind."""
    wholes: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (list(Kind).index(kind_of(name) or Kind.ASSET), name)):
        wholes.setdefault(name.rsplit("/", 1)[0] if kind_of(name) is Kind.ASSET else name, []).append(name)
    return [tuple(whole) for whole in wholes.values()]


def pack(results: Path, out: Path, *, limit: int = PARCEL_BYTES, most: int = PARCELS) -> Packed:
    """Write `parcel-1.tar.gz`, ... of at most `limit` bytes each into `out`, in place of earlier ones. Same results, same bytes.

    Raises UserError where there is nothing to pack, or no room to write.
    """
    here = [path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()]
    wholes = [names for names in together([name for name in here if kind_of(name)]) if len(names) == _count(names)]
    if not wholes:
        raise UserError(f"nothing to pack under {results}: no plan, no record, no checkpoint")
    room = limit - tarfile.RECORDSIZE - 2 * tarfile.BLOCKSIZE - limit // 1000  # the tar's end; what gzip adds where it cannot compress
    parcels, left = distribute({names: sum(_room(results / name) for name in names) for names in wholes}, room, most)
    files = [out / f"parcel-{k}.tar.gz" for k in range(1, len(parcels) + 1)]
    for file, inside in zip(files, parcels):
        write_atomic(file, archive({name: (results / name).read_bytes() for names in inside for name in names}))
    for stale in set(out.glob("parcel-*.tar.gz")) - set(files):
        stale.unlink()
    return Packed(files=files, left_out={names: sum((results / name).stat().st_size for name in names) for names in left})


def distribute(rooms: Mapping[Names, int], room: int, most: int) -> tuple[list[list[Names]], list[Names]]:
    """First fit in the order given: what goes into each of at most `most` parcels of this room, and what into none."""
    parcels: list[list[Names]] = []
    free: list[int] = []
    left_out = []
    for names, needed in rooms.items():
        k = next((k for k, left in enumerate(free) if needed <= left), None)
        if k is None and (needed > room or len(free) == most):
            left_out.append(names)
            continue
        if k is None:
            k = len(free)
            parcels.append([])
            free.append(room)
        parcels[k].append(names)
        free[k] -= needed
    return parcels, left_out


def archive(content: Mapping[str, bytes]) -> bytes:
    """A gzipped tar of regular files: names and bytes, and nothing of the machine, its users or its clock."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, of_file in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(of_file)
            tar.addfile(member, io.BytesIO(of_file))
    return gzip.compress(raw.getvalue(), mtime=0)


def _count(names: Names) -> int:
    """Of how many files the whole consists that these belong to."""
    return 2 if kind_of(names[0]) is Kind.ASSET else 1


def _room(path: Path) -> int:
    """Bytes in a tar: a block of header, and whole blocks of content."""
    return tarfile.BLOCKSIZE * (1 + -(-path.stat().st_size // tarfile.BLOCKSIZE))
