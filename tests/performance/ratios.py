"""Two ways of doing one thing, timed side by side in one run: interleaved, medians, a bootstrap interval of the ratio."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.meters.latency import timed

ROUNDS = 9
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Median seconds a call of either, and the median of theirs / ours with its 95 % interval: above 1, ours is faster."""

    ours_s: float
    theirs_s: float
    ratio: float
    low: float
    high: float


def compare(
    name: str, ours: Callable[[], object], theirs: Callable[[], object], device: torch.device, goal: str, rounds: int = ROUNDS
) -> Comparison:
    """Time both, once for warm-up and then in interleaved rounds; print and return."""
    for call in (ours, theirs):
        timed(call, device)
    pairs = []
    for k in range(rounds):
        first, second = (ours, theirs) if k % 2 == 0 else (theirs, ours)
        a, b = timed(first, device), timed(second, device)
        pairs.append((a, b) if k % 2 == 0 else (b, a))
    ratios = [b / a for a, b in pairs]
    low, high = interval(ratios)
    ours_s, theirs_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    found = Comparison(ours_s=ours_s, theirs_s=theirs_s, ratio=statistics.median(ratios), low=low, high=high)
    print(f"\n{name}: {found.ratio:.3g}x [{low:.3g}, {high:.3g}]  ours {ours_s:.4f} s, other {theirs_s:.4f} s; goal {goal}")
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % percentile bootstrap of the median, seeded."""
    values = torch.tensor(ratios, dtype=torch.float64)
    picks = torch.randint(len(values), (RESAMPLES, len(values)), generator=torch.Generator().manual_seed(0))
    medians = values[picks].median(dim=1).values.sort().values
    return float(medians[int(0.025 * RESAMPLES)]), float(medians[int(0.975 * RESAMPLES)])
