"""Wall time of a call: warm-up until stable, the device synchronised at both ends, repeats until the median is known or time is up."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

WARM_UPS = 3
STABLE = 0.02
WARM_UP_SHARE = 0.25
ENOUGH = 30
RELATIVE_CI = {"cuda": 0.01, "cpu": 0.03}


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of each timed call."""

    samples_s: tuple[float, ...]

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
    """Warm up, then repeat the call until 30 samples give a narrow median, or until `limit_s` is spent; once at the least."""
    begin = time.monotonic()
    warm = [timed(call, device)]
    while time.monotonic() - begin < limit_s * WARM_UP_SHARE and not _stable(warm):
        warm.append(timed(call, device))
    samples = [timed(call, device)]
    while time.monotonic() - begin < limit_s and not (len(samples) >= ENOUGH and _narrow(samples, device)):
        samples.append(timed(call, device))
    return Latency(samples_s=tuple(samples))


def _stable(warm: list[float]) -> bool:
    last = warm[-WARM_UPS:]
    return len(last) == WARM_UPS and max(last) <= (1 + STABLE) * min(last)


def _narrow(samples: list[float], device: torch.device) -> bool:
    return median_spread(samples) <= RELATIVE_CI[device.type]


def median_spread(samples: list[float]) -> float:
    """Half-width of the median's 95 % interval, relative to it, from order statistics (normal approximation of the binomial)."""
    ordered, n = sorted(samples), len(samples)
    reach = 0.98 * n**0.5
    low, high = ordered[max(0, int(n / 2 - reach))], ordered[min(n - 1, int(n / 2 + reach))]
    return (high - low) / 2 / statistics.median(ordered)
