"""What ten thousand records cost to read: `bench report` (goal: 20 s) and `bench status` (goal: 3 s). Run as a module; not a test.

python -m tests.performance.many_records [number of records] [folder to keep them in]
"""

import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measures import Measure, measured
from bench.records.store import RECORD, Store, dump
from bench.survey import rows
from bench.values import Cell, Record
from tests.made_records import made_record

SEEDS = 5
SCORES = ("fd", "fd_infinity", "cs", "kid", "precision", "recall")
EXTRACTORS = ("efficientnet_lite0", "digits")
GOALS_S = {"report": 20.0, "status": 3.0}


def score(value: float) -> Measure:
    """With an interval, a signature and the replicates of 20 blocks, as real ones have."""
    replicates = tuple(value + 1e-3 * k for k in range(20))
    signature = "a distance; some-classifier:0123456789abcdef, resize none, float32, batch 64; reference 0123456789abcdef, 1,437 images"
    return Measure(value=value, low=0.9 * value, high=1.1 * value, n=1024, method=signature, replicates=replicates)


def synthetic(index: int) -> Record:
    """The k-th of a sweep over the survey's strategies; every record is of another configuration or seed."""
    names = sorted({name for row in rows() for name in row.strategies})
    chosen, seed = divmod(index, SEEDS)
    steps, which = divmod(chosen, len(names))
    record = made_record(names[which], steps=steps + 1, quality=1 + 0.1 * (chosen % 97) + 0.01 * seed, seed=seed)
    kept = {f"{kind}_{extractor}": score(1 + 0.1 * (chosen % 89) + 0.01 * seed) for kind in SCORES for extractor in EXTRACTORS}
    return dataclasses.replace(record, scores={**record.scores, **kept, "nll_bits_per_dim": measured(3.0, method="exact")})


def fill(store: Store, count: int) -> None:
    """Without the flush to disk that `Store.write` waits for."""
    cells: list[Cell] = []
    (store.folder / "records").mkdir(parents=True)
    for index in range(count):
        record = synthetic(index)
        cells.append(record.cell)
        store.record_path(record.cell.id).write_bytes(RECORD.dump_json(record, indent=1, exclude_none=True))
    (store.folder / "plan.json").write_bytes(dump(list[Cell], cells))


def timed(folder: Path, *words: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "bench", *words, "digits", "--results", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"bench {words[0]}: {wall:.1f} s ({cpu:.1f} s of processor time); goal {GOALS_S[words[0]]:.0f} s")


def main(count: int, folder: Path) -> None:
    store, started = Store(folder / "digits" / "synthetic"), time.perf_counter()
    if not store.folder.exists():
        fill(store, count)
    size = sum(path.stat().st_size for path in (store.folder / "records").iterdir())
    print(f"{count:,} records of {size / count / 1e3:.0f} kB, made in {time.perf_counter() - started:.1f} s")
    timed(folder, "status")
    timed(folder, "report")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as scratch:
        main(count, Path(sys.argv[2]) if len(sys.argv) > 2 else Path(scratch))
