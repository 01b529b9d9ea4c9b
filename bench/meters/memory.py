"""Peak memory of a block, in all and on top of what was there before: allocated on a GPU, resident on a Linux CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.measures import Measure, measured, missing

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


class Peak:
    """Once the block has ended, `growth` holds what it needed beyond the level at entry, `total` the highest level, weights and all."""

    growth: Measure = missing("not measured: the block has not ended")
    total: Measure = growth


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Bytes at the highest level inside the block, and above the level at entry."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        highest = torch.cuda.max_memory_allocated(device)
        peak.growth, peak.total = measured(highest - before, method="cuda allocated"), measured(highest, method="cuda allocated")
        return
    before_kb = _reset_and_read()
    yield peak
    after_kb = _read("VmHWM")
    if before_kb is None or after_kb is None:
        peak.growth = peak.total = missing("not measured: the system shows no resettable peak of resident memory")
        return
    peak.total = measured(after_kb * 1024, method="resident set, of the whole worker")
    if after_kb <= before_kb:
        peak.growth = missing("not measured: it fitted into what the process held already")
    else:
        peak.growth = measured((after_kb - before_kb) * 1024, method="growth of the resident set")


def _reset_and_read() -> int | None:
    """Reset the high-water mark and return the present resident size in kB; None where the system cannot."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return None
    return _read("VmRSS")


def _read(key: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)
