"""Energy and power of a GPU through a fake NVML whose joules and watts are known."""

import itertools
import time
from types import SimpleNamespace

import pytest
import torch

from bench.measures import EnergySource
from bench.meters.energy.meter import energy_meter, gpu_source, idle_power
from bench.meters.energy.nvml import EnergyCounter, NoGpuEnergy, PolledPower, gpu_energy, idle_power_w
from tests.fakes import FakeNvml, reason, value

CPU = torch.device("cpu")
JOULES_PER_KWH = 3.6e6
UUID = "3c9a1f00-0000-0000-0000-000000000001"


def test_the_counter_comes_first_then_power_then_a_reason() -> None:
    found = [gpu_energy(UUID, FakeNvml(mj=5, mw=7)), gpu_energy(UUID, FakeNvml(mw=7)), gpu_energy(UUID, FakeNvml())]
    assert [type(f) for f in found] == [EnergyCounter, PolledPower, NoGpuEnergy]
    assert [f.source for f in found] == [EnergySource.NVML_COUNTER, EnergySource.NVML_POWER, None]


def test_a_counter_or_a_power_of_zero_is_none() -> None:
    assert gpu_energy(UUID, FakeNvml(mj=0, mw=7)).source is EnergySource.NVML_POWER
    assert gpu_energy(UUID, FakeNvml(mj=0, mw=0)).source is None


@pytest.mark.parametrize(
    ("nvml", "words"),
    [
        (FakeNvml(mj=5, mw=7, uuid="GPU-another"), "does not show"),
        (FakeNvml(mj=5, mw=7, mig=1), "MIG slice"),
        (FakeNvml(mj=5, mw=7, uuid=f"MIG-{UUID}"), "MIG slice"),
        (FakeNvml(), "neither"),
    ],
)
def test_no_source_is_told(nvml: FakeNvml, words: str) -> None:
    gpu = gpu_energy(UUID, nvml)
    assert isinstance(gpu, NoGpuEnergy) and words in gpu.reason and gpu.reason.startswith("not measured: ")


def test_the_real_nvml_does_not_know_an_invented_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUID))
    gpu = gpu_source(torch.device("cuda"))
    assert isinstance(gpu, NoGpuEnergy) and "does not show this GPU" in gpu.reason
    assert reason(idle_power(torch.device("cuda"))) == gpu.reason
    assert gpu_source(CPU) is None


def test_a_card_that_knows_no_mig_is_whole() -> None:
    assert gpu_energy(UUID, FakeNvml(mj=5, mig=None)).source is EnergySource.NVML_COUNTER


def test_polled_power_of_a_curve_with_knots() -> None:
    """0 W to 300 W in 2 s, 300 W for 3 s, to 100 W in 1 s: 300 + 900 + 200 J. The thread sleeps, the readings poll."""
    knots = [(10.0, 0.0), (12.0, 300.0), (15.0, 300.0), (16.0, 100.0)]
    at = iter(knots)
    now = [0.0, 0.0]

    def clock() -> float:
        now[:] = next(at)
        return now[0]

    polled = PolledPower(lambda: now[1], period_s=3600, clock=clock)
    polled.start()
    totals = [polled.joules() for _ in range(3)]
    polled.stop()
    assert totals == pytest.approx([300.0, 1200.0, 1400.0], rel=1e-9)


def test_polled_power_of_a_ramp_with_its_thread() -> None:
    """P(t) = 40 t W, for which the rule is exact: 20 (t1^2 - t0^2) J, however often the thread has polled."""
    ticks = itertools.count(1)
    seen: list[float] = []

    def clock() -> float:
        seen.append(next(ticks) / 16)
        return seen[-1]

    polled = PolledPower(lambda: 40 * seen[-1], period_s=0.001, clock=clock)
    polled.start()
    time.sleep(0.1)
    polled.stop()
    joules = polled.joules()
    assert len(seen) > 5
    assert joules == pytest.approx(20 * (seen[-1] ** 2 - seen[0] ** 2), rel=1e-9)


def test_a_lost_poll_loses_the_total() -> None:
    nvml = FakeNvml(mw=100_000)
    gpu = gpu_energy(UUID, nvml)
    with energy_meter(CPU, gpu=gpu) as meter:
        nvml.mw = None
        time.sleep(0.1)
        nvml.mw = 100_000
    assert "no reading" in reason(meter.energy.kwh)
    with energy_meter(CPU, gpu=gpu) as meter:
        time.sleep(0.01)
    assert value(meter.energy.gpu_kwh) > 0


def test_power_at_rest() -> None:
    nvml, slept = FakeNvml(mj=5, mw=60_000), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        nvml.mw = 60_000 + 1_000 * len(slept)

    rest = idle_power_w(UUID, nvml, sleep)
    assert value(rest) == pytest.approx(60 + (len(slept) - 1) / 2, rel=1e-9)  # polls of 60, 61, ... W
    assert rest.n == len(slept) and sum(slept) == pytest.approx(1.0)
    assert reason(idle_power_w(UUID, FakeNvml())).startswith("failed")
    assert reason(idle_power_w(UUID, FakeNvml(mw=0), slept.append)).startswith("not measured")
    assert reason(idle_power(CPU)).startswith("not applicable")


# --- the meter ---
