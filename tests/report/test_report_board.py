"""The leaderboard's rows: intervals over seeds, costs taken apart, break-even; every oracle is arithmetic done here."""

import dataclasses
import gc
import math
from collections.abc import Callable

import pandas as pd
import pytest
from scipy import stats

from bench.cards import Heading
from bench.measures import EnergySource, Measure, measured, missing
from bench.report.leaderboard import terminal as tables
from bench.report.leaderboard.board import board, code_state
from bench.report.leaderboard.breakeven import Footprint, baseline, breakeven, breakevens
from bench.report.leaderboard.from_record import half, times
from bench.report.leaderboard.seeds import over_seeds, within_bounds
from bench.report.page.collector import at_rest
from bench.values import Record
from tests.made_records import failed_record, made_energy, made_record, made_train

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"


def between(value: float, low: float, high: float) -> Measure:
    return Measure(value=value, low=low, high=high, n=10)


def test_one_seed_keeps_its_own_interval() -> None:
    one = between(0.301, 0.28, 0.32)
    assert over_seeds([one], same_models=False) is one
    assert over_seeds([one, missing("timeout: a test")], same_models=False) is one
    assert over_seeds([missing("a"), missing("b")], same_models=True).reason == "a"


def test_trained_seeds_spread_by_students_t() -> None:
    values = [1.0, 1.4, 1.3]
    found = over_seeds([measured(v, n=10) for v in values], same_models=False)
    low, high = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    assert (found.value, found.low, found.high, found.n) == (pytest.approx(3.7 / 3), pytest.approx(low), pytest.approx(high), 30)


def test_same_networks_are_spread_by_sampling_alone() -> None:
    seeds = [between(1.0, 0.7, 1.4), between(3.0, 2.6, 3.3)]
    found = over_seeds(seeds, same_models=True)
    assert found.low == pytest.approx(2 - math.hypot(0.3, 0.4) / 2) and found.high == pytest.approx(2 + math.hypot(0.4, 0.3) / 2)
    wider = over_seeds(seeds, same_models=False)
    assert wider.low is not None and wider.low < 2 - 12  # t(1) = 12.7, standard error 1


def test_seeds_that_agree_by_chance_hide_no_sampling_error() -> None:
    found = over_seeds([between(2.0, 1.0, 3.0)] * 2 + [between(2.0, 1.0, 3.0)], same_models=False)
    assert found.low == pytest.approx(2 - 1 / math.sqrt(3)) and found.high == pytest.approx(2 + 1 / math.sqrt(3))


def test_counts_have_no_interval() -> None:
    found = over_seeds([measured(0.1), measured(0.1), measured(0.1)], same_models=False)
    assert found.value == pytest.approx(0.1) and found.low is None and found.high is None


def test_no_interval_leaves_the_range_of_its_quantity() -> None:
    assert within_bounds(between(0.99, 0.9, 1.1), (0.0, 1.0)) == between(0.99, 0.9, 1.0)
    assert within_bounds(between(2.0, -1.0, 5.0), (0.0, math.inf)) == between(2.0, 0.0, 5.0)
    latency = [_costly(made_record(DDIM, steps=5, quality=1.0, seed=s), latency_p50_s=measured(v)) for s, v in enumerate((0.01, 0.09))]
    rows = board(latency)
    assert rows.values["p50_ms"].iloc[0] == pytest.approx(50)
    assert rows.lows["p50_ms"].iloc[0] == 0 and rows.highs["p50_ms"].iloc[0] == pytest.approx(50 + 12.706 * 40, rel=1e-3)


def test_units_carry_the_interval() -> None:
    assert times(between(2.0, 1.0, 4.0), 1e3) == Measure(value=2000.0, low=1000.0, high=4000.0, n=10)


def test_cells_show_their_intervals(records: list[Record]) -> None:
    seen = dataclasses.replace(records[0], scores={**records[0].scores, "fd_digits": between(0.3012, 0.2801, 0.3204)})
    rows = board([seen])
    assert rows.text()["FD digits"].iloc[0] == "0.301 [0.28, 0.32]"
    assert rows.numbers()["FD digits"].iloc[0] == "0.301"
    assert (rows.lows["fd_digits"].iloc[0], rows.highs["fd_digits"].iloc[0]) == (0.2801, 0.3204)
    assert rows.text()["Steps"].iloc[0] == "50" and pd.isna(rows.lows["steps"].iloc[0])


def test_frames_have_one_shape_and_one_order(records: list[Record]) -> None:
    rows = board(records)
    keys = [c.key for c in rows.columns]
    for frame in (rows.values, rows.lows, rows.highs, rows.reasons):
        assert list(frame.columns) == keys and len(frame) == len(rows.info) == 3
    assert {str(kind) for frame in (rows.values, rows.lows, rows.highs) for kind in frame.dtypes} == {"float64"}
    empty = rows.values.isna()
    assert rows.reasons.notna().equals(empty)  # a reason where, and only where, a number is missing


def test_a_terminal_shows_the_best_and_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> None:
    rows = board(records)
    assert tables.terminal(rows, "all").row_count == 3 and tables.terminal(rows, "all").caption is None
    monkeypatch.setattr(tables, "TERMINAL_ROWS", 2)
    cut = tables.terminal(rows, "best")
    assert cut.row_count == 2 and cut.caption == "the best 2 of 3; the report's files have all"


def test_the_collector_rests_and_wakes() -> None:
    with at_rest():
        assert not gc.isenabled()
        with at_rest():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_interval_that_rounds_to_the_value_is_not_shown() -> None:
    record = made_record(DDIM, steps=5, quality=1.0)
    record = dataclasses.replace(record, scores={"fd_digits": between(5.0, 4.9999, 5.0001)})
    assert board([record]).text()["FD digits"].iloc[0] == "5"


def test_training_is_told_apart() -> None:
    gpu = dataclasses.replace(made_train(10.0), gpu_days=measured(2.0), energy=made_energy(0.5))
    shared = dataclasses.replace(made_train(20.0), gpu_days=measured(3.0), energy=made_energy(0.25))
    record = dataclasses.replace(made_record(DDIM, steps=5, quality=1.0), train=gpu, inherited={"denoiser": shared, "autoencoder": shared})
    first = board([record]).values.iloc[0]
    assert (first["gpu_days_own"], first["gpu_days_inherited"], first["gpu_days"]) == (2.0, 6.0, 8.0)
    assert (first["train_kwh_own"], first["train_kwh_inherited"], first["train_kwh"]) == (0.5, 0.5, 1.0)


def test_the_source_of_energy_is_named() -> None:
    record = made_record(DDIM, steps=5, quality=1.0)
    read = dataclasses.replace(made_energy(1.0), source=EnergySource.NVML_COUNTER, host_source=EnergySource.CONSTANT)
    sources = [board([r]).info["energy_source"].iloc[0] for r in (record, _costly(record, energy=read))]
    assert sources == ["estimate (estimated_load)", "reading (nvml_counter) + estimate (constant)"]


def test_the_estimator_of_the_likelihood_stands_beside_it(records: list[Record]) -> None:
    bound = Measure(value=3.1, method="variational bound, one draw; test split")
    seen = dataclasses.replace(records[0], scores={**records[0].scores, "nll_bits_per_dim": bound})
    rows = board([seen, records[1], failed_record("eps.noise.ddgm")])
    assert list(rows.info["estimator"])[:2] == ["variational bound, one draw; test split", "none"]
    assert list(rows.text()["NLL estimator"])[:2] == ["variational bound", "none"]
    assert rows.text()["NLL estimator"].iloc[2].startswith("timeout: ran past")


@pytest.mark.parametrize(("heading", "name"), [(Heading.NOISE, "EPS"), (Heading.GUIDANCE, "EDS"), (Heading.CONTROL, "control")])
def test_halves_of_the_taxonomy(heading: Heading, name: str) -> None:
    assert half(heading) == name


def test_state_of_the_code() -> None:
    record = made_record("control.resample", steps=1, quality=1.0)
    assert code_state(record) == "older"
    assert code_state(dataclasses.replace(record, cell=dataclasses.replace(record.cell, strategy="user.mine"))) == "plug-in"


def row(name: str, train: float, image: float, *, steps: float = 10, strategy: str = "eps.noise.x") -> Footprint:
    place = ("digits", "CPU test")
    return Footprint(
        name=name, strategy=strategy, place=place, steps=steps, train_kwh=measured(train), image_kwh=measured(image), source="rapl"
    )


BASE = row("base", 10.0, 0.02)


def test_break_even_where_totals_meet() -> None:
    ours = row("ours", 40.0, 0.005)
    found = breakeven(ours, BASE)
    assert found.value == pytest.approx(2000)  # 30 / 0.015
    assert math.isclose(40.0 + 2000 * 0.005, 10.0 + 2000 * 0.02)
    assert found.low is None


def test_break_even_has_the_interval_of_the_images() -> None:
    ours = dataclasses.replace(row("ours", 40.0, 0.005), image_kwh=between(0.005, 0.002, 0.008))
    base = dataclasses.replace(BASE, image_kwh=between(0.02, 0.016, 0.024))
    found = breakeven(ours, base)
    assert found.value == pytest.approx(2000) and found.low == pytest.approx(30 / 0.020) and found.high == pytest.approx(30 / 0.010)
    blurred = dataclasses.replace(ours, image_kwh=between(0.005, 0.0, 0.03))
    assert str(breakeven(blurred, base).reason).startswith("not told: ")


@pytest.mark.parametrize(
    ("train", "image", "reason"),
    [
        (10.0, 0.005, "pays off at once: "),
        (9.0, 0.02, "pays off at once: "),
        (10.001, 0.005, "pays off at once: "),  # the first image saves more
        (40.0, 0.03, "never pays off: "),
        (40.0, 0.02, "never pays off: "),
        (10.0, 0.03, "never pays off: "),
        (4.0, 0.03, "ahead at first: cheaper training is used up after 600 images"),
    ],
)
def test_no_break_even_says_why(train: float, image: float, reason: str) -> None:
    assert str(breakeven(row("ours", train, image), BASE).reason).startswith(reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: dataclasses.replace(r, train_kwh=missing("not measured: a test")), "no energy: not measured: a test"),
        (lambda r: dataclasses.replace(r, source="constant"), "measured differently: constant | rapl"),
        (lambda r: dataclasses.replace(r, name="base"), "not applicable: the baseline itself"),
    ],
)
def test_unknown_energy_is_no_break_even(change: Callable[[Footprint], Footprint], reason: str) -> None:
    assert breakeven(change(row("ours", 40.0, 0.005)), BASE).reason == reason


def test_the_baseline_is_the_default_sampler_at_its_most_steps() -> None:
    few, many = (row(f"ddim {n}", 1.0, 1.0, steps=n, strategy=DDIM) for n in (10, 50))
    longest = row("ddpm", 1.0, 1.0, steps=1000, strategy=DDPM)
    assert baseline([longest, few, many]) is many and baseline([longest, BASE]) is longest and baseline([BASE]) is None
    found, names = breakevens({1: BASE})
    assert names == {} and str(found[1].reason).startswith("no baseline: ")


def test_break_even_on_the_board_stays_on_its_device() -> None:
    """One image costs 1e-3 kWh / 500; the costly strategy trains for 0.3 kWh more and draws at a tenth."""
    base = made_record(DDPM, steps=50, quality=2.0)
    costly = _costly(made_record("eps.noise.ddgm", steps=5, quality=1.0), energy=made_energy(1e-4))
    costly = dataclasses.replace(costly, train=dataclasses.replace(made_train(1.0), energy=made_energy(0.3001)))
    elsewhere = made_record("eps.noise.ddgm", steps=5, quality=3.0, device="GPU test")
    rows = board([base, costly, elsewhere])
    assert rows.values["breakeven"].iloc[0] == pytest.approx(0.3 / (9e-4 / 500))
    assert rows.reasons["breakeven"].iloc[1] == "not applicable: the baseline itself"
    assert rows.reasons["breakeven"].iloc[2].startswith("no baseline: ")
    title = next(c.title for c in rows.columns if c.key == "breakeven")
    assert title == f"Break-even against {DDPM}[steps=50] (images)"


def _costly(record: Record, **changes: object) -> Record:
    assert record.sample is not None
    return dataclasses.replace(record, sample=dataclasses.replace(record.sample, **changes))  # type: ignore[arg-type]
