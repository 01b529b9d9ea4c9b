"""Forecasts from records: sums by hand, shared trainings once, scaling by images, FLOPs and throughput."""

import dataclasses

import pytest
import torch

from bench.cli import printing
from bench.harness.plan import forecast as forecasts
from bench.harness.plan.forecast import BYTES_PER_CELL, base_flops, forecast, readable
from bench.measures import measured
from bench.meters.energy.carbon import WORLD
from bench.meters.latency import Latency
from bench.values import Cell, Compute, Record
from tests.made_records import made_cell, made_record

DDIM = "eds.representation.ddim"
SPEED = 1e9


def record(steps: int = 50, wall_s: float = 9.0, device: str = "CPU test", seed: int = 0) -> Record:
    """Training 0.5 s of its own and 40 s inherited; 200 images/s; 1e-3 kWh for 500 images."""
    made = made_record(DDIM, steps=steps, quality=1.0, device=device, seed=seed)
    provenance = dataclasses.replace(made.provenance, wall_s=wall_s + 0.5, phases_s={"fit": 0.5, "draw": wall_s})
    budget = dataclasses.replace(made.cell.budget, energy_s=1.0)
    return dataclasses.replace(made, provenance=provenance, cell=dataclasses.replace(made.cell, budget=budget))


def of(cell: Cell, **changes: float | Compute) -> Cell:
    return dataclasses.replace(cell, budget=dataclasses.replace(cell.budget, **changes))


def seconds(todo: list[Cell], records: list[Record], device: str = "CPU test", absent: tuple[str, ...] = (), speed: float = SPEED) -> float:
    value = forecast(todo, absent, records, device, lambda _cell: speed, WORLD).seconds.value
    assert value is not None
    return value


def test_the_same_cell_takes_what_it_took() -> None:
    made = record()
    found = forecast([made.cell], ("denoiser",), [made], "CPU test", lambda _: SPEED, WORLD)
    assert found.seconds.value == pytest.approx(9 + 0.5 + 40) and found.cells == 1 and not found.unknown
    power_kw = 1e-3 * 3600 * 200 / 500
    assert found.kwh.value == pytest.approx(49.5 / 3600 * power_kw)
    assert found.co2_kg.value == pytest.approx(49.5 / 3600 * power_kw * 0.475)
    assert found.gpu_hours.reason and found.disk_bytes.value is not None and found.disk_bytes.value > BYTES_PER_CELL
    assert seconds([made.cell], [made]) == pytest.approx(9.5)  # the asset is there


def test_trainings_are_shared_by_configurations_as_the_card_says() -> None:
    first = record()
    card = dataclasses.replace(first.card, sampling_fields=("steps",))
    first, second = (dataclasses.replace(r, card=card) for r in (first, record(steps=10, wall_s=4.0)))
    assert seconds([first.cell, second.cell], [first, second]) == pytest.approx(9 + 4 + 0.5)
    without = [dataclasses.replace(r, card=dataclasses.replace(card, sampling_fields=())) for r in (first, second)]
    assert seconds([r.cell for r in without], without) == pytest.approx(9 + 4 + 2 * 0.5)


def test_cells_side_by_side_take_less_time_and_no_less_energy() -> None:
    made = record()
    one = forecast([made.cell], (), [made], "CPU test", lambda _: SPEED, WORLD)
    two = one.over(2)
    assert one.seconds.value is not None and two.seconds.value == one.seconds.value / 2 and two.kwh == one.kwh
    none = forecast([made.cell], (), [], "CPU test", lambda _: SPEED, WORLD)
    assert none.over(2) == none


def test_scaling() -> None:
    made = record()
    assert seconds([of(made.cell, n_samples=1000)], [made]) == pytest.approx(18.5)
    assert seconds([of(made.cell, train_images=4000)], [made]) == pytest.approx(9 + 2.0)
    fewer = dataclasses.replace(made.cell, params={"steps": 10}, shown={"steps": 10})
    assert seconds([fewer], [made]) == pytest.approx(9 / 5 + 0.5)
    wide = of(made.cell, width=64)
    size = base_flops(wide.workload, wide.budget) / base_flops(made.cell.workload, made.cell.budget)
    assert 3.5 < size < 4.0 and seconds([wide], [made]) == pytest.approx(9.5 * size)
    assert seconds([of(made.cell, energy_s=60.0)], [made]) == pytest.approx(60.5)  # no less than the window of energy


def test_another_device() -> None:
    """Records there ran 2e9 FLOP an image at 200 images/s; half the speed here takes twice as long, at a power that nobody knows."""
    made = record(device="CPU other")
    assert seconds([made.cell], [made], speed=2e11) == pytest.approx(2 * 9.5)
    assert forecast([made.cell], (), [made], "CPU test", lambda _: 2e11, WORLD).kwh.reason
    mine = record(wall_s=3.0)
    assert seconds([made.cell], [made, mine]) == pytest.approx(3.5)  # one's own record comes first
    assert forecast([made.cell], (), [made], "NVIDIA X", lambda _: 2e11, WORLD).gpu_hours.value == pytest.approx(19 / 3600)


def test_what_no_record_tells_of_is_named() -> None:
    cell = made_record("eps.training.p2", steps=50, quality=1.0).cell
    found = forecast([cell], (), [record()], "CPU test", lambda _: SPEED, WORLD)
    assert found.unknown == (cell.label,) and found.kwh.value is None
    assert found.seconds.value is None and found.seconds.reason == "not measured: no record says anything of these cells"
    alone, both = (forecast([*more, record().cell], (), [record()], "CPU test", lambda _: SPEED, WORLD) for more in ((), (cell,)))
    assert both.seconds.value == alone.seconds.value and both.seconds.value and both.unknown == (cell.label,)
    assert forecast([cell], (), [record()], "NVIDIA X", lambda _: SPEED, WORLD).gpu_hours == found.seconds


@pytest.mark.parametrize("way", ["compute", "training"])
def test_what_compiling_takes_is_only_told_by_records_of_compiled_networks(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = record()
    cell = of(plain.cell, training=Compute.FAST) if way == "training" else dataclasses.replace(plain.cell, compute=Compute.FAST)
    quick = dataclasses.replace(record(wall_s=30.0), cell=cell)
    untold, told = (forecast([cell], (), records, "CPU test", lambda _: SPEED, WORLD) for records in ([plain], [plain, quick]))
    assert untold.uncompiled == (cell.label,) and untold.seconds.value == pytest.approx(9.5)
    assert told.uncompiled == () and told.seconds.value == pytest.approx(30.5)
    printing.forecast(untold)
    assert "what compiling takes, as no record tells it of 1 of them" in capsys.readouterr().out


def test_printed_without_exponents(capsys) -> None:  # type: ignore[no-untyped-def]
    found = forecast([record().cell], (), [record()], "CPU test", lambda _: SPEED, WORLD)
    printing.forecast(dataclasses.replace(found, seconds=measured(7260.0), kwh=measured(0.0123)))
    lines = capsys.readouterr().out.splitlines()
    assert "  time: 121 min" in lines and "  energy: 0.012 kWh" in lines


def test_unreadable_records_are_passed_over(tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "suite" / "device" / "records"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{")
    assert readable(tmp_path, tmp_path / "none") == []


def test_other_work_does_not_make_a_device_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = made_cell(DDIM, steps=10)
    monkeypatch.setattr(forecasts, "measure", lambda *_: Latency(samples_s=(0.5, 0.02, 0.5), warm_ups=3))
    flops = base_flops(cell.workload, cell.budget) * cell.budget.batch_size
    assert forecasts.measured_speed(torch.device("cpu"), cell) == pytest.approx(flops / 0.02)
