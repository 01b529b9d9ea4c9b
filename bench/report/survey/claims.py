"""The papers' claims against our records: reproduced, not reproduced, or inconclusive, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from bench.cards import Claim, Params, Relation, task_name
from bench.intervals import student
from bench.measures import Measure
from bench.records.store import slug
from bench.report.leaderboard.board import number, quality_key
from bench.values import Compute, Record, Status, configuration

ENOUGH_SEEDS = 2
COUNTED = ("flops_per_image", "nfe_per_image", "params", "steps")  # the same for every seed
SIGNS = {Relation.AT_MOST: "≤", Relation.AT_LEAST: "≥"}


class ClaimVerdict(StrEnum):
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Ours and the baseline's measure, both with a value, of one device, task and seed."""

    device: str
    task: str
    seed: int
    ours: Measure
    baseline: Measure

    @property
    def values(self) -> tuple[float, float]:
        assert self.ours.value is not None and self.baseline.value is not None
        return self.ours.value, self.baseline.value


@dataclass(frozen=True, kw_only=True)
class Audit:
    """One claim with our figures: a pair for every device, task and seed that both sides have. `id` is its anchor in the page."""

    id: str
    strategy: str
    heading: str
    claim: Claim
    metric: str
    pairs: tuple[Pair, ...]
    verdict: ClaimVerdict
    why: str

    @property
    def predicate(self) -> str:
        """`fd_digits of a[steps=10] ≤ 0.5 × b[steps=10]`."""
        ours, theirs = configuration(self.strategy, self.claim.params), configuration(self.claim.baseline, self.claim.baseline_params)
        factor = "" if self.claim.factor == 1 else f"{self.claim.factor:g} × "
        return f"{self.metric} of {ours} {SIGNS[self.claim.relation]} {factor}{theirs}"

    @property
    def seeds(self) -> int:
        return len({pair.seed for pair in self.pairs})

    @property
    def figures(self) -> list[str]:
        """`seed 0: 1.2 [1.1, 1.3] / 2.4 [2.2, 2.6]`, a text a pair; task or device before it where the pairs are of several."""
        tasks, devices = ({p.task for p in self.pairs}, {p.device for p in self.pairs})
        texts = []
        for pair in self.pairs:
            place = [pair.task] * (len(tasks) > 1) + [f"on {pair.device}"] * (len(devices) > 1)
            where = " ".join(place) + ", " if place else ""
            texts.append(f"{where}seed {pair.seed}: {with_interval(pair.ours)} / {with_interval(pair.baseline)}")
        return texts

    @property
    def ratio(self) -> Measure | None:
        """Ours / baseline, the mean over pairs; with Student's interval where the pairs are seeds of one task on one device."""
        ratios = [ours / baseline for ours, baseline in (pair.values for pair in self.pairs) if baseline]
        if not ratios or len(ratios) < len(self.pairs):
            return None
        mean = math.fsum(ratios) / len(ratios)
        if len(ratios) < ENOUGH_SEEDS or len({(pair.device, pair.task) for pair in self.pairs}) > 1:
            return Measure(value=mean, n=len(ratios))
        deviation = math.sqrt(math.fsum((r - mean) ** 2 for r in ratios) / (len(ratios) - 1))
        reach = student(len(ratios) - 1) * deviation / math.sqrt(len(ratios))
        return Measure(value=mean, low=mean - reach, high=mean + reach, n=len(ratios))


def audit(records: Sequence[Record]) -> list[Audit]:
    """Every claim on the cards of these records, which is judged on networks as written."""
    cards = {r.cell.strategy: r.card for r in records}
    finished: dict[str, list[Record]] = {}
    for record in records:
        if record.status is Status.OK and record.cell.compute is Compute.REFERENCE:
            finished.setdefault(record.cell.strategy, []).append(record)
    keys = _keys(records)
    found = [(name, number_, claim) for name in sorted(cards) for number_, claim in enumerate(cards[name].claims, start=1)]
    return [
        _audit(f"claim-{slug(name)}-{k}", name, str(cards[name].heading), claim, keys.get(claim.metric, claim.metric), finished)
        for name, k, claim in found
    ]


def _audit(id_: str, strategy: str, heading: str, claim: Claim, metric: str, finished: dict[str, list[Record]]) -> Audit:
    ours = _measures(finished.get(strategy, []), claim.params, metric)
    theirs = _measures(finished.get(claim.baseline, []), claim.baseline_params, metric)
    pairs = tuple(
        Pair(device=key[0], task=key[1], seed=key[2], ours=ours[key], baseline=theirs[key]) for key in sorted(ours.keys() & theirs.keys())
    )
    verdict, why = judge(pairs, claim)
    return Audit(id=id_, strategy=strategy, heading=heading, claim=claim, metric=metric, pairs=pairs, verdict=verdict, why=why)


def _keys(records: Sequence[Record]) -> dict[str, str]:
    """A score's key: `fd` on a claim is that which ranks here, `fd_clips` that of whole clips on the data set's classifier of them."""
    return {"fd": quality_key(records), "fd_clips": next((f"fd_{r.cell.workload.dataset}_clips" for r in records), "fd_clips")}


def judge(pairs: Sequence[Pair], claim: Claim) -> tuple[ClaimVerdict, str]:
    """The predicate must hold, or fail, for every pair; and for two seeds at least where the seed moves the measure."""
    if not pairs:
        return ClaimVerdict.INCONCLUSIVE, "no pair of records with the configurations of the claim"
    seeds = len({pair.seed for pair in pairs})
    held = [holds(*pair.values, claim) for pair in pairs]
    counted = f"{sum(held)} of {len(held)} pairs over {seeds} seed{'s' * (seeds > 1)}"
    if seeds < ENOUGH_SEEDS and claim.metric not in COUNTED:
        return ClaimVerdict.INCONCLUSIVE, f"{counted}; {ENOUGH_SEEDS} seeds are needed"
    if all(held):
        return ClaimVerdict.REPRODUCED, counted
    return (ClaimVerdict.INCONCLUSIVE if any(held) else ClaimVerdict.NOT_REPRODUCED), counted


def holds(ours: float, baseline: float, claim: Claim) -> bool:
    match claim.relation:
        case Relation.AT_MOST:
            return ours <= claim.factor * baseline
        case Relation.AT_LEAST:
            return ours >= claim.factor * baseline


def _measures(records: list[Record], params: Params, metric: str) -> dict[tuple[str, str, int], Measure]:
    """Measures by (device, task, seed) of the configuration that the suite chose with these parameters."""
    found: dict[tuple[str, str, int], Measure] = {}
    for r in records:
        if all(r.cell.params.get(key) == value for key, value in params.items()):
            measure = r.scores.get(metric) or getattr(r.sample, metric, None)
            if measure is not None and measure.value is not None:
                found[r.provenance.device, task_name(r.cell.workload.task), r.cell.seed] = measure
    return found


def claims_table(audits: Sequence[Audit]) -> pd.DataFrame:
    """One row a claim, as it is written beside the page."""
    return pd.DataFrame([_row(a) for a in audits], columns=list(COLUMNS))


COLUMNS = (
    *("Id", "Strategy", "Claim", "In the paper", "Source", "Read in the paper", "Predicate", "Ours / baseline, per seed"),
    *("Ratio", "Ratio low", "Ratio high", "Seeds", "Verdict", "Why"),
)


def _row(a: Audit) -> dict[str, object]:
    ratio = a.ratio
    said = (a.id, a.strategy, a.claim.text, a.claim.figure, a.claim.source, "yes" if a.claim.verified else "no", a.predicate)
    figures = "; ".join(a.figures)
    bounds = ["" if x is None else f"{x:.6g}" for x in ((ratio.value, ratio.low, ratio.high) if ratio else (None,) * 3)]
    return dict(zip(COLUMNS, (*said, figures, *bounds, a.seeds, str(a.verdict), a.why), strict=True))


def printed_claims(audits: Sequence[Audit]) -> pd.DataFrame:
    """The same, as wide as a page of print."""
    rows = [
        {
            "Claim": a.claim.text,
            "Strategy": a.strategy,
            "In the paper": f"{a.claim.figure} ({a.claim.source}{'' if a.claim.verified else '; second-hand'})",
            "Ours / baseline": "; ".join(a.figures) or "none",
            "Ratio": with_interval(a.ratio) if a.ratio else "-",
            "Verdict": f"{a.verdict} ({a.why})",
        }
        for a in audits
    ]
    return pd.DataFrame(rows, columns=["Claim", "Strategy", "In the paper", "Ours / baseline", "Ratio", "Verdict"])


def with_interval(measure: Measure) -> str:
    """`1.2 [1.1, 1.3]`, or the number alone."""
    assert measure.value is not None
    if measure.low is None or measure.high is None:
        return number(measure.value)
    return f"{number(measure.value)} [{number(measure.low)}, {number(measure.high)}]"
