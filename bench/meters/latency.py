"""Wall time of a call: warm-up until stable, the device synchronised at both ends, repeats until the median is known or time is up."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

WARM_UPS = 3
STABLE = 0.02
WARM_UP_SHARE = 0.25
ENOUGH = 30
LONGEST_S = 10.0  # for fewer samples than that,
PATIENCE = 10  # and never longer than this times the limit
RELATIVE_CI = {"cuda": 0.01, "cpu": 0.03}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of each timed call, after so many warm-ups."""

    samples_s: tuple[float, ...]
    warm_ups: int

    @property
    def p50(self) -> float:
        return statistics.median(self.samples_s)

    @property
    def p95(self) -> float:
        ordered = sorted(self.samples_s)
        return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, from an idle device to an idle device."""
    synchronise(device)
    begin = time.perf_counter_ns()
    call()
    synchronise(device)
    return (time.perf_counter_ns() - begin) / 1e9


def measure(call: Callable[[], object], device: torch.device, limit_s: float) -> Latency:
    """Warm up; then 30 samples, or as many as 10 s hold, or ten times the limit if that is less; then on until the median is known well
    enough, or `limit_s` is spent.

    Known well enough: a 95 % interval of 1 % of the median on a GPU, 3 % on a CPU.
    """
    begin = time.monotonic()
    warm = [timed(call, device)]
    while time.monotonic() - begin < limit_s * WARM_UP_SHARE and not _stable(warm):
        warm.append(timed(call, device))
    samples: list[float] = []
    begin = time.monotonic()
    while not _enough(samples, time.monotonic() - begin, limit_s, RELATIVE_CI[device.type]):
        samples.append(timed(call, device))
    return Latency(samples_s=tuple(samples), warm_ups=len(warm))


def _enough(samples: list[float], elapsed_s: float, limit_s: float, wanted: float) -> bool:
    if not samples or (len(samples) < ENOUGH and elapsed_s < min(LONGEST_S, PATIENCE * limit_s)):
        return False
    return elapsed_s >= limit_s or median_spread(samples) <= wanted


def _stable(warm: list[float]) -> bool:
    last = warm[-WARM_UPS:]
    return len(last) == WARM_UPS and max(last) <= (1 + STABLE) * min(last)


def median_spread(samples: Sequence[float]) -> float:
    """Half-width of the median's 95 % interval, relative to it."""
    low, high = median_interval(samples)
    return (high - low) / 2 / statistics.median(samples)


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median from order statistics (normal approximation of the binomial)."""
    ordered, n = sorted(samples), len(samples)
    reach = 0.98 * n**0.5
    return ordered[max(0, int(n / 2 - reach))], ordered[min(n - 1, int(n / 2 + reach))]
