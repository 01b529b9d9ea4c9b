"""A against B from records: what is compared, what a person's names mean, and the exit code as a gate."""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from bench.cards import Edit
from bench.measures import EnergySource, Measure, measured
from bench.records.names import wanted
from bench.records.store import Store
from bench.report.comparison.matching import Match, matches
from bench.report.comparison.paired import Basis
from bench.report.comparison.quantities import Kind
from bench.report.comparison.verdicts import Verdict, compare, regressions, tally
from bench.values import Record, UserError
from tests.conftest import Run
from tests.made_records import failed_record, made_record, of_key, with_scores

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"
SMALL = np.linspace(-0.01, 0.01, 20)  # as replicates: a jackknife error of 0.026


def test_better_is_lower_or_higher_by_the_quantity() -> None:
    """A has the larger value everywhere."""
    lower, higher = (
        ("fid", "fd_x", "fd_infinity_x", "kid", "nll_bits_per_dim"),
        ("precision", "recall_x", "cs_x", "inception_score", "class_accuracy"),
    )
    scores = {key: (Measure(value=2.0, low=1.9, high=2.1), Measure(value=1.0, low=0.9, high=1.1)) for key in (*lower, *higher, "halves_x")}
    a, b = (with_scores(made_record(DDIM, steps=50, quality=1.0), **{k: v[side] for k, v in scores.items()}) for side in (0, 1))
    found = {c.key: c.verdict for c in compare([a], [b]) if c.kind is Kind.QUALITY}
    assert found == dict.fromkeys(lower, Verdict.WORSE) | dict.fromkeys(higher, Verdict.BETTER)


def with_latency(record: Record, seconds: float) -> Record:
    """With a median known to one percent."""
    assert record.sample is not None
    known = Measure(value=seconds, low=0.99 * seconds, high=1.01 * seconds)
    return dataclasses.replace(record, sample=dataclasses.replace(record.sample, latency_p50_s=known))


def test_counts_are_compared_exactly_and_costs_by_their_intervals() -> None:
    fast, slow = (made_record(name, steps=steps, quality=1.0) for name, steps in ((DDIM, 10), (DDPM, 50)))
    fast, slow = with_latency(fast, 0.01), with_latency(slow, 0.05)
    found = {c.key: c for c in compare([fast], [slow])}
    assert found["nfe_per_image"].verdict is Verdict.BETTER and found["nfe_per_image"].p_adjusted is None
    assert found["nfe_per_image"].relative == pytest.approx(-0.8) and found["nfe_per_image"].found.basis is Basis.COUNTED
    assert found["params"].verdict is Verdict.TIE and found["params"].found.difference == 0
    assert found["latency_p50_s"].verdict is Verdict.BETTER and found["latency_p50_s"].found.basis is Basis.INDEPENDENT
    assert found["latency_p50_s"].found.low == pytest.approx(-0.04 - math.hypot(0.0001, 0.0005))
    assert found["latency_p95_s"].verdict is Verdict.INCONCLUSIVE and "one seed" in str(found["latency_p95_s"].found.reason)
    assert found["fid"].found.reason == "weights not found"


def test_the_next_measurement_of_a_time_counts_although_the_model_is_the_same() -> None:
    """Two seeds whose latencies differ from session to session by far more than each one's interval says."""

    def timed(name: str, seed: int, latency: float) -> Record:
        record = with_latency(made_record(name, steps=50, quality=1.0, seed=seed), latency)
        assert record.train is not None
        return dataclasses.replace(record, train=dataclasses.replace(record.train, images_seen=measured(0)))

    ours, theirs = ([timed(name, seed, v) for seed, v in enumerate(vs)] for name, vs in ((DDIM, (0.04, 0.05)), (DDPM, (0.06, 0.06))))
    found = of_key(compare(ours, theirs), "latency_p50_s")
    assert found.found.basis is Basis.SEEDS and found.verdict is Verdict.TIE


def test_time_is_compared_on_one_device_and_scores_by_one_method() -> None:
    here = made_record(DDIM, steps=50, quality=1.0, replicates=tuple(1.0 + SMALL))
    there = made_record(DDPM, steps=50, quality=2.0, replicates=tuple(2.0 - SMALL), device="GPU test")
    found = {c.key: c for c in compare([here], [there])}
    assert found["latency_p50_s"].found.reason == "measured differently: CPU test | GPU test"
    assert found["latency_p50_s"].found.ours == 0.05 and found["fd_digits"].verdict is Verdict.BETTER
    other = with_scores(there, fd_digits=dataclasses.replace(there.scores["fd_digits"], method="another classifier"))
    assert here.sample is not None
    energy = dataclasses.replace(here.sample.energy, source=EnergySource.RAPL)
    rapl = dataclasses.replace(here, sample=dataclasses.replace(here.sample, energy=energy))
    assert (
        of_key(compare([here], [rapl]), "sampling_kwh").found.reason
        == "measured differently: estimated_load on CPU test | rapl on CPU test"
    )
    judged = of_key(compare([here], [other]), "fd_digits")
    assert judged.verdict is Verdict.INCONCLUSIVE and "another classifier" in str(judged.found.reason)


def test_a_record_ties_with_itself_and_one_value_judges_nothing() -> None:
    record = made_record(DDIM, steps=50, quality=1.0, replicates=tuple(1.0 + SMALL))
    assert {c.verdict for c in compare([record], [record])} == {Verdict.TIE, Verdict.INCONCLUSIVE}
    itself = of_key(compare([record], [record]), "fd_digits")
    assert itself.verdict is Verdict.TIE and itself.found.basis is Basis.IDENTICAL and itself.p_adjusted is None
    bare, other = (made_record(name, steps=50, quality=q) for name, q in ((DDIM, 1.0), (DDPM, 2.0)))
    assert of_key(compare([bare], [other]), "fd_digits").verdict is Verdict.INCONCLUSIVE
    flat = [made_record(n, steps=50, quality=q, replicates=(q,) * 20) for n, q in ((DDIM, 1.0), (DDPM, 2.0))]
    assert of_key(compare([flat[0]], [flat[1]]), "fd_digits").found.reason == "no spread under the difference"


def test_a_margin_makes_small_differences_ties() -> None:
    shift = np.linspace(-0.001, 0.001, 20)
    ours, theirs = (
        [made_record(n, steps=50, quality=q, replicates=tuple(q + s * shift))] for n, q, s in ((DDIM, 1.05, 1), (DDPM, 1.0, -1))
    )
    assert of_key(compare(ours, theirs), "fd_digits").verdict is Verdict.WORSE
    assert of_key(compare(ours, theirs, margin=0.02), "fd_digits").verdict is Verdict.WORSE
    assert of_key(compare(ours, theirs, margin=0.10), "fd_digits").verdict is Verdict.TIE


def test_other_seeds_and_other_budgets_are_no_pair() -> None:
    ours = made_record(DDIM, steps=50, quality=1.0)
    with pytest.raises(UserError, match="no common seed"):
        compare([ours], [made_record(DDPM, steps=50, quality=1.0, seed=1)])
    budget = dataclasses.replace(ours.cell.budget, n_samples=100)
    with pytest.raises(UserError, match="no common seed"):
        compare([ours], [dataclasses.replace(ours, cell=dataclasses.replace(ours.cell, budget=budget))])


def sweep(name: str, *steps: int, **more: str) -> list[Record]:
    return [made_record(name, steps=s, quality=1.0, **more) for s in steps]  # type: ignore[arg-type]


def labels(found: Iterable[Match]) -> list[str]:
    return [match.title for match in found]


def test_names_mean_configurations() -> None:
    records = [*sweep(DDIM, 4, 10, 50), *sweep(DDPM, 10, 50, 250), *sweep("eps.mixing.ldm_ddim", 7)]
    both = [f"{DDIM}[steps={s}] against {DDPM}[steps={s}] on CPU test" for s in (10, 50)]
    assert labels(matches(records, "ddim", "eds.state_space.ddpm")) == both
    assert labels(matches(records, "ddim[steps=10]", "ddpm")) == both[:1]
    assert labels(matches(records, "ddim[steps=4]", "ddpm[steps=250.0]")) == [f"{DDIM}[steps=4] against {DDPM}[steps=250] on CPU test"]
    assert labels(matches(records, "ddim[ steps = 10 ]", "ldm_ddim")) == [
        f"{DDIM}[steps=10] against eps.mixing.ldm_ddim[steps=7] on CPU test"
    ]


def test_a_configuration_without_a_sweep_meets_every_other() -> None:
    (plain,) = sweep("control.gaussian", 1)
    records = [*sweep(DDIM, 4, 10), dataclasses.replace(plain, cell=dataclasses.replace(plain.cell, shown={}))]
    assert labels(matches(records, "ddim", "gaussian")) == [f"{DDIM}[steps={s}] against control.gaussian on CPU test" for s in (4, 10)]


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ("dimm", "did you mean 'eds.representation.ddim'"),
        ("ddim[steps=51]", r"did you mean 'eds.representation.ddim\[steps=50\]'"),
        ("ddim[step=50]", "no configuration 'ddim"),
        ("ddim[50]", "parameter=value"),
        ("ddim[steps=50", "no NAME"),
        ("p2", "no finished record of 'p2': timeout: ran past"),
        ("ddpm", r"shares its swept parameters.*ddpm\[steps=99\]"),
        ("twin", "may be eds.guidance.twin or eps.noise.twin"),
    ],
)
def test_a_name_that_means_nothing_is_the_users_fault(ours: str, words: str) -> None:
    twins = [*sweep("eds.guidance.twin", 1), *sweep("eps.noise.twin", 1)]
    records = [*sweep(DDIM, 10, 50), *sweep(DDPM, 99), *twins, failed_record("eps.training.p2")]
    with pytest.raises(UserError, match=words):
        matches(records, ours, "ddim")


def test_one_configuration_a_task_is_a_pair() -> None:
    """The number of tasks on either side does not matter."""
    ours, theirs = sweep(DDIM, 7), sweep(DDPM, 9)
    edited = dataclasses.replace(ours[0].cell, workload=dataclasses.replace(ours[0].cell.workload, task=Edit()))
    records = [*ours, dataclasses.replace(ours[0], cell=edited), *theirs]
    assert labels(matches(records, "ddim", "ddpm")) == [f"{DDIM}[steps=7] against {DDPM}[steps=9] on CPU test"]


def test_seeds_stand_in_their_order() -> None:
    ours, theirs = ([made_record(n, steps=1, quality=float(s), seed=s) for s in seeds] for n, seeds in ((DDIM, (2, 0, 1)), (DDPM, (1, 2))))
    assert [(v.seed, v.ours.value, v.theirs.value) for v in of_key(compare(ours, theirs), "fd_digits").per_seed] == [(1, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize(
    ("text", "params", "meant"),
    [
        ("x[clip=true]", {"clip": True}, True),
        ("x[clip=True]", {"clip": False}, False),
        ("x[steps=1]", {"steps": True}, False),
        ("x[eta=0]", {"eta": 0.0}, True),
        ("x[steps=ten]", {"steps": 10}, False),
        ("x[steps=10, k=1]", {"steps": 10}, False),
    ],
)
def test_values_are_read_as_people_write_them(text: str, params: dict[str, int | float | str | bool | None], meant: bool) -> None:
    assert wanted(text).means(params) == meant


def test_devices_are_kept_apart() -> None:
    records = [*sweep(DDIM, 10), *sweep(DDIM, 10, device="GPU test"), *sweep(DDPM, 10), *sweep(DDPM, 10, device="GPU test")]
    assert labels(matches(records, "ddim", "ddpm")) == [f"{DDIM}[steps=10] against {DDPM}[steps=10] on {d} test" for d in ("CPU", "GPU")]
    (one,) = matches([records[0], records[3]], "ddim", "ddpm")
    assert one.title == f"{DDIM}[steps=10] on CPU test against {DDPM}[steps=10] on GPU test"


def test_regressions_are_losses_of_the_gated_kind() -> None:
    worse, better = (
        made_record(n, steps=s, quality=q, replicates=tuple(q * (1 + SMALL))) for n, s, q in ((DDIM, 10, 2.0), (DDPM, 50, 1.0))
    )
    found = compare([worse], [better])
    assert [c.key for c in regressions(found, [Kind.QUALITY])] == ["fd_digits"] and not regressions(found, [Kind.COST])
    assert tally(found, Kind.QUALITY) == {Verdict.BETTER: 0, Verdict.WORSE: 1, Verdict.TIE: 0, Verdict.INCONCLUSIVE: 3}
    back = compare([better], [worse])
    assert not regressions(back, [Kind.QUALITY]) and {c.key for c in regressions(back, Kind)} == {"steps", "nfe_per_image"}
    with pytest.raises(UserError, match="nothing of quality could be judged"):
        regressions(compare(sweep(DDIM, 10), sweep(DDPM, 10)), [Kind.QUALITY])


@pytest.fixture
def duel(tmp_path: Path) -> Path:
    """A root with a suite in which DDIM at 10 steps loses to DDPM, and P2 has no intervals."""
    store = Store(tmp_path / "own" / "digits" / "cpu")
    for name, quality in ((DDIM, 2.0), (DDPM, 1.0)):
        store.write(made_record(name, steps=10, quality=quality, replicates=tuple(quality * (1 + SMALL))))
    store.write(made_record("eps.training.p2", steps=10, quality=1.5))
    return tmp_path / "own"


def test_the_exit_code_is_a_gate(bench: Run, duel: Path) -> None:
    lost = bench("compare", "ddim", "ddpm", "--results", duel, check=(1,)).stdout
    assert "eds.representation.ddim[steps=10] against eds.state_space.ddpm[steps=10] on CPU test" in lost
    assert "quality: 0 better, 1 worse, 0 tie, 3 inconclusive" in lost
    assert bench("compare", "ddim", "ddpm", "--results", duel, "--gate", "cost").returncode == 0
    won = json.loads(bench("compare", "ddpm", "ddim", "--results", duel, "--json").stdout)
    (first,) = [q for q in won["contests"][0]["quantities"] if q["key"] == "fd_digits"]
    assert first["verdict"] == "better" and first["found"]["difference"] == -1.0 and first["goal"] == "lower is better"
    (values,) = first["per_seed"]
    assert (values["seed"], values["ours"]["value"], values["theirs"]["value"]) == (0, 1.0, 2.0) and values["ours"]["replicates"] is None
    assert Path(won["page"]) == duel / "reports" / "digits" / "compare-ddpm-ddim.html" and Path(won["page"]).is_file()
    elsewhere = bench("compare", "ddpm", "ddim", "--results", duel, "--out", "pages").stdout
    assert "pages/compare-ddpm-ddim.html" in elsewhere and (duel.parent / "pages" / "compare-ddpm-ddim.html").is_file()
    assert "could be judged" in bench("compare", "p2", "ddpm", "--results", duel, check=(2,)).stderr
    assert bench("compare", "ddimm", "ddpm", "--results", duel, check=(2,)).stderr.count("\n") == 1


def test_comparison_loads_no_torch(duel: Path) -> None:
    code = (
        "import sys, bench.cli.main\n"
        f"sys.argv = ['bench', 'compare', 'ddpm', 'ddim', '--results', {str(duel)!r}]\n"
        "try:\n    bench.cli.main.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'sklearn', 'matplotlib', 'codecarbon'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
