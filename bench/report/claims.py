"""The papers' claims against our records: reproduced, not reproduced, or inconclusive, and why."""

from dataclasses import dataclass
from enum import StrEnum

from bench.cards import Claim, Params, Relation, task_name
from bench.report.frame import cost, quality_key, score
from bench.values import Record, Status

ENOUGH_SEEDS = 2
COUNTED = ("flops_per_image", "nfe_per_image", "params", "steps")  # the same for every seed


class Verdict(StrEnum):
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One claim with our figures: (ours, the baseline's) for every seed and task that both sides have."""

    strategy: str
    claim: Claim
    metric: str
    pairs: tuple[tuple[float, float], ...]
    verdict: Verdict
    why: str


def audit(records: list[Record]) -> list[Audit]:
    """Every claim on the cards of these records."""
    cards = {r.cell.strategy: r.card for r in records}
    return [_audit(name, claim, records) for name in sorted(cards) for claim in cards[name].claims]


def _audit(strategy: str, claim: Claim, records: list[Record]) -> Audit:
    metric = _key(claim.metric, records)
    ours = _by_seed(records, strategy, claim.params, metric)
    theirs = _by_seed(records, claim.baseline, claim.baseline_params, metric)
    common = sorted(ours.keys() & theirs.keys())
    pairs = tuple((ours[key], theirs[key]) for key in common)
    verdict, why = judge(pairs, len({seed for _, _, seed in common}), claim)
    return Audit(strategy=strategy, claim=claim, metric=metric, pairs=pairs, verdict=verdict, why=why)


def _key(metric: str, records: list[Record]) -> str:
    """A score's key: `fd` on a claim is that which ranks here, `fd_clips` that of whole clips on the data set's classifier of them."""
    if metric == "fd":
        return quality_key(records)
    return next(f"fd_{r.cell.workload.dataset}_clips" for r in records) if metric == "fd_clips" else metric


def judge(pairs: tuple[tuple[float, float], ...], seeds: int, claim: Claim) -> tuple[Verdict, str]:
    """The predicate must hold, or fail, for every pair; and for two seeds at least where the seed moves the measure."""
    if not pairs:
        return Verdict.INCONCLUSIVE, "no pair of records with the configurations of the claim"
    held = [holds(a, b, claim) for a, b in pairs]
    counted = f"{sum(held)} of {len(held)} pairs over {seeds} seed{'s' * (seeds > 1)}"
    if seeds < ENOUGH_SEEDS and claim.metric not in COUNTED:
        return Verdict.INCONCLUSIVE, f"{counted}; {ENOUGH_SEEDS} seeds are needed"
    if all(held):
        return Verdict.REPRODUCED, counted
    return (Verdict.INCONCLUSIVE if any(held) else Verdict.NOT_REPRODUCED), counted


def holds(ours: float, baseline: float, claim: Claim) -> bool:
    match claim.relation:
        case Relation.AT_MOST:
            return ours <= claim.factor * baseline
        case Relation.AT_LEAST:
            return ours >= claim.factor * baseline


def _by_seed(records: list[Record], strategy: str, params: Params, metric: str) -> dict[tuple[str, str, int], float]:
    """Values by (device, task, seed) of the configuration that the suite chose with these parameters."""
    found = {}
    for r in records:
        if r.status is Status.OK and r.cell.strategy == strategy and _matches(params, r.cell.params):
            get = score(metric) if metric in r.scores else cost(metric)
            value = get(r).value if metric in r.scores or hasattr(r.sample, metric) else None
            if value is not None:
                found[r.provenance.device, task_name(r.cell.workload.task), r.cell.seed] = value
    return found


def _matches(wanted: Params, params: Params) -> bool:
    return all(params.get(key) == value for key, value in wanted.items())
