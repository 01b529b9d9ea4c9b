"""The audit of claims: the predicate, seeds, ratios, and the table beside the page."""

import dataclasses

import pytest
from scipy import stats

from bench.cards import Edit
from bench.report.survey.claims import ClaimVerdict, audit, claims_table
from bench.values import Record
from tests.made_records import later, made_record


def pair(ours: float, seed: int) -> list[Record]:
    """Our record and its baseline's, which has quality 2."""
    return [
        made_record("eds.representation.ddim", steps=50, quality=ours, seed=seed),
        made_record("eds.state_space.ddpm", steps=50, quality=2.0, seed=seed),
    ]


def test_claims_hold_fail_and_wait() -> None:
    def verdict(*records: Record) -> tuple[ClaimVerdict, str]:
        (found,) = audit(list(records))
        return found.verdict, found.why

    assert verdict(*pair(1.0, 0), *pair(1.5, 1)) == (ClaimVerdict.REPRODUCED, "2 of 2 pairs over 2 seeds")
    assert verdict(*pair(3.0, 0), *pair(2.5, 1)) == (ClaimVerdict.NOT_REPRODUCED, "0 of 2 pairs over 2 seeds")
    assert verdict(*pair(3.0, 0), *pair(1.0, 1)) == (ClaimVerdict.INCONCLUSIVE, "1 of 2 pairs over 2 seeds")
    assert verdict(*pair(1.0, 0)) == (ClaimVerdict.INCONCLUSIVE, "1 of 1 pairs over 1 seed; 2 seeds are needed")
    assert verdict(pair(1.0, 0)[0])[0] is ClaimVerdict.INCONCLUSIVE


def test_counted_claims_need_one_seed() -> None:
    ours, baseline = pair(1.0, 0)
    claim = dataclasses.replace(ours.card.claims[0], metric="flops_per_image")
    ours = dataclasses.replace(ours, card=dataclasses.replace(ours.card, claims=(claim,)))
    assert audit([ours, baseline])[0].verdict is ClaimVerdict.REPRODUCED


def test_a_claims_figures_and_ratio() -> None:
    (found,) = audit([*pair(1.0, 0), *pair(1.5, 1), *pair(1.2, 2)])
    low, high = stats.t.interval(0.95, 2, loc=1.85 / 3, scale=stats.sem([0.5, 0.75, 0.6]))
    assert found.ratio is not None
    assert (found.ratio.value, found.ratio.low, found.ratio.high) == tuple(map(pytest.approx, (1.85 / 3, low, high)))
    assert found.predicate == "fd_digits of eds.representation.ddim[steps=50] ≤ eds.state_space.ddpm[steps=50]" and found.seeds == 3
    row = claims_table([found]).iloc[0]
    assert row["Ours / baseline, per seed"] == "seed 0: 1 / 2; seed 1: 1.5 / 2; seed 2: 1.2 / 2" and float(row["Ratio"]) == pytest.approx(
        1.85 / 3, rel=1e-5
    )
    (one,) = audit(pair(1.0, 0))
    assert one.ratio is not None and one.ratio.value == 0.5 and one.ratio.low is None
    (none,) = audit(pair(1.0, 0)[:1])
    assert none.ratio is None and claims_table([none])["Ratio"].tolist() == [""]


def test_figures_name_what_differs_between_pairs() -> None:
    here = pair(1.0, 0)
    there = [dataclasses.replace(r, provenance=dataclasses.replace(r.provenance, device="GPU test")) for r in here]
    edited = [later(r, workload=dataclasses.replace(r.cell.workload, task=Edit())) for r in here]
    assert audit([*here, *there])[0].figures == ["on CPU test, seed 0: 1 / 2", "on GPU test, seed 0: 1 / 2"]
    assert audit([*here, *edited])[0].figures == ["edit, seed 0: 1 / 2", "generate, seed 0: 1 / 2"]
    assert audit([*there, *edited])[0].figures == ["edit on CPU test, seed 0: 1 / 2", "generate on GPU test, seed 0: 1 / 2"]


def test_claims_table_is_whole_without_claims() -> None:
    assert list(claims_table([]).columns)[:3] == ["Id", "Strategy", "Claim"]
