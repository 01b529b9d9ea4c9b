"""Standard errors and 95 % intervals. No torch; layer 0, as records and reports read them alike."""

import math
from collections.abc import Sequence

from scipy.special import ndtri, stdtrit

from bench.measures import Measure, measured

LEVEL = 0.95


def jackknife_error(replicates: Sequence[float]) -> float:
    """Standard error from B values with one block left out each: sqrt((B - 1) / B * sum (r_b - mean)^2) (Tukey 1958)."""
    count = len(replicates)
    mean = math.fsum(replicates) / count
    return math.sqrt((count - 1) / count * math.fsum((r - mean) ** 2 for r in replicates))


def student(freedom: float) -> float:
    """Half-width of the 95 % interval in standard errors, Student's t."""
    return float(stdtrit(freedom, 0.5 + LEVEL / 2))


def jackknifed(value: float, replicates: Sequence[float], *, n: int, method: str) -> Measure:
    """A measure with the interval that its replicates give, and the replicates."""
    if not math.isfinite(value):
        return measured(value)
    reach = student(len(replicates) - 1) * jackknife_error(replicates)
    return Measure(value=value, low=value - reach, high=value + reach, n=n, method=method, replicates=tuple(replicates))


def share(hits: int, n: int, method: str, replicates: Sequence[float] | None = None) -> Measure:
    """A proportion with its interval (Wilson 1927)."""
    z, p = float(ndtri(0.5 + LEVEL / 2)), hits / n
    centre, reach = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z**2 / n
    kept = None if replicates is None else tuple(replicates)
    return Measure(
        value=p, low=max(0.0, (centre - reach) / scale), high=min(1.0, (centre + reach) / scale), n=n, method=method, replicates=kept
    )
