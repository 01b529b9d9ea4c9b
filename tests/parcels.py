"""Parcels made by hand, for the tests of what they may hold."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from bench.records.store import RECORD
from bench.values import Record

PLACE = "tiny/cpu-test"


def parcel(path: Path, *members: tuple[tarfile.TarInfo | str, bytes]) -> Path:
    """A parcel of these members, however wrong."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for named, content in members:
            info = tarfile.TarInfo(named) if isinstance(named, str) else named
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(raw.getvalue(), mtime=0))
    return path


def record_file(record: Record) -> tuple[str, bytes]:
    return f"{PLACE}/records/{record.cell.id}.json", RECORD.dump_json(record, indent=1, exclude_none=True)


def checkpoint(size: int) -> bytes:
    """Weights of about this many bytes that no packer makes smaller."""
    return save({"w": np.frombuffer(np.random.default_rng(0).bytes(size), dtype=np.uint8)})


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
