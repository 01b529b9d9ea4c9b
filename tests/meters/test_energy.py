"""The energy meter against known joules, its arithmetic against sums by hand, and codecarbon without a network."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch

from bench.measures import Energy, EnergySource, Measure, measured, missing
from bench.meters.energy import meter as meters
from bench.meters.energy.carbon import WORLD, place
from bench.meters.energy.meter import Setting, Span, energy_meter, energy_of
from bench.meters.energy.nvml import GpuEnergy, NoGpuEnergy, PolledPower, gpu_energy
from tests.fakes import FakeNvml, reason, value

CPU = torch.device("cpu")
JOULES_PER_KWH = 3.6e6
UUID = "3c9a1f00-0000-0000-0000-000000000001"


def work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        torch.ones(100, 100) @ torch.ones(100, 100)


# --- sources of a GPU ---


def test_counter_of_known_joules() -> None:
    nvml = FakeNvml(mj=987_654_321)
    with energy_meter(CPU, gpu=gpu_energy(UUID, nvml)) as meter:
        nvml.mj = 987_654_321 + 3_600_000_000
        work(0.02)
    energy = meter.energy
    assert value(energy.gpu_kwh) == pytest.approx(1.0, rel=1e-9)
    assert value(energy.kwh) == pytest.approx(1.0 + value(energy.host_kwh), rel=1e-12)
    assert 0 < value(energy.host_kwh) < 1e-4
    assert energy.source is EnergySource.NVML_COUNTER
    assert 0.02 <= value(energy.window_s) < 60
    assert value(energy.co2_kg) == pytest.approx(0.475 * value(energy.kwh), rel=1e-12)
    assert (energy.place, energy.carbon_g_per_kwh, energy.carbon_year) == ("world", 475.0, None)


def test_laps_by_hand() -> None:
    """100, 125 and 80 J per image in three laps; 77 J after the last belong to the block alone."""
    nvml = FakeNvml(mj=1_000)
    with energy_meter(CPU, place=place("FRA"), gpu=gpu_energy(UUID, nvml)) as meter:
        for units, mj in ((10, 1_001_000), (20, 3_501_000), (5, 3_901_000)):
            nvml.mj = mj
            meter.lap(units)
        nvml.mj = 3_978_000
    block, per = meter.energy, meter.per(1000)
    assert value(block.gpu_kwh) == pytest.approx(3977 / JOULES_PER_KWH, rel=1e-9) and block.gpu_kwh.n == 1
    assert value(per.gpu_kwh) == pytest.approx(1000 * 305 / 3 / JOULES_PER_KWH, rel=1e-9) and per.gpu_kwh.n == 3
    assert value(per.kwh) == pytest.approx(value(per.gpu_kwh) + value(per.host_kwh), rel=1e-9)
    assert per.kwh.method is not None and "nvml_counter" in per.kwh.method and "3 laps" in per.kwh.method
    assert value(per.window_s) < value(block.window_s)
    assert (per.place, per.carbon_year) == ("FRA", place("FRA").year)


def span(units: float, gpu: Measure, host: Measure, seconds: float = 5.0) -> Span:
    return Span(units=units, seconds=seconds, gpu_kwh=gpu, host_kwh=host)


def of(spans: list[Span], units: float, gpu: GpuEnergy | None, source: EnergySource | None = EnergySource.RAPL) -> Energy:
    return energy_of(spans, units, Setting(gpu=gpu, host_source=source, idle_w=missing("not read"), place=WORLD))


COUNTER = gpu_energy(UUID, FakeNvml(mj=5))


def test_interval_by_hand() -> None:
    """Rates of 1, 2, 3 per unit: mean 2, deviation 1, t(2; 0.975) = 4.30265 (tables)."""
    spans = [span(u, measured(g), measured(h)) for u, g, h in ((4, 3.0, 1.0), (2, 1.0, 3.0), (1, 2.0, 1.0))]
    energy = of(spans, 10.0, COUNTER)
    reach = 10 * 4.30265 / 3**0.5
    assert value(energy.kwh) == pytest.approx(20.0) and energy.kwh.n == 3
    assert (energy.kwh.low, energy.kwh.high) == (pytest.approx(20 - reach, rel=1e-4), pytest.approx(20 + reach, rel=1e-4))
    assert value(energy.gpu_kwh) == pytest.approx(10 * (0.75 + 0.5 + 2) / 3)
    assert value(energy.host_kwh) == pytest.approx(10 * (0.25 + 1.5 + 1) / 3)
    assert energy.co2_kg.high == pytest.approx(0.475 * (20 + reach), rel=1e-4)
    assert value(energy.window_s) == 15.0


def test_one_lap_has_no_interval() -> None:
    energy = of([span(4, measured(8.0), measured(4.0))], 1.0, COUNTER)
    assert value(energy.kwh) == 3.0 and energy.kwh.n == 1 and energy.kwh.low is None and energy.co2_kg.high is None


def test_the_sources_of_a_cpu_are_those_of_the_host() -> None:
    energy = of([span(1, missing("-"), measured(4.0))], 1.0, None, EnergySource.CONSTANT)
    assert value(energy.kwh) == 4.0 and energy.source is energy.host_source is EnergySource.CONSTANT
    assert reason(energy.gpu_kwh).startswith("not applicable")


ZERO, ONE, NONE = measured(0.0), measured(1.0), missing("failed: lost")


@pytest.mark.parametrize(
    ("gpu", "parts", "seconds", "words"),
    [
        (COUNTER, (NONE, ONE), 5.0, "failed: lost"),
        (COUNTER, (ZERO, ONE), 5.0, "failed: the GPU's energy did not move in 5 s"),
        (COUNTER, (ZERO, ONE), 0.05, "not measured: 0.05 s is too short"),
        (COUNTER, (ONE, NONE), 5.0, "failed: lost"),
        (COUNTER, (ONE, ZERO), 5.0, "failed: codecarbon"),
        (None, (NONE, ZERO), 5.0, "failed: codecarbon"),
        (None, (NONE, NONE), 5.0, "failed: lost"),
    ],
)
def test_energy_is_never_a_silent_zero(gpu: GpuEnergy | None, parts: tuple[Measure, Measure], seconds: float, words: str) -> None:
    energy = of([span(1, *parts, seconds)], 1.0, gpu)
    assert reason(energy.kwh).startswith(words) and reason(energy.co2_kg).startswith(words)
    assert energy.source is None and energy.carbon_g_per_kwh is None


def test_one_lost_lap_loses_the_mean() -> None:
    assert reason(of([span(1, ONE, ONE), span(1, NONE, ONE)], 1.0, COUNTER).kwh) == "failed: lost"
    assert value(of([span(1, ONE, ONE), span(1, ZERO, ONE)], 1.0, COUNTER).kwh) == 1.5  # a lap between two movements of a counter


def test_an_unknown_way_of_reading_the_processor_is_no_figure() -> None:
    assert reason(of([span(1, ONE, ONE)], 1.0, None, source=None).kwh).startswith("not measured")


def test_a_gpu_without_reading_leaves_the_hosts_part_apart() -> None:
    with energy_meter(CPU, gpu=NoGpuEnergy("not measured: because")) as meter:
        work(0.02)
    assert reason(meter.energy.kwh) == reason(meter.energy.gpu_kwh) == "not measured: because"
    assert value(meter.energy.host_kwh) > 0


def test_a_counter_that_runs_backwards_is_no_figure() -> None:
    nvml = FakeNvml(mj=1_000)
    with energy_meter(CPU, gpu=gpu_energy(UUID, nvml)) as meter:
        nvml.mj = 10
        meter.lap(1)
        nvml.mj = 5_000
    assert "backwards" in reason(meter.energy.kwh) and "backwards" in reason(meter.per(1).kwh)


def test_misuse_is_refused() -> None:
    with energy_meter(CPU) as meter:
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = meter.energy
        with pytest.raises(ValueError, match="positive"):
            meter.lap(0)
    with pytest.raises(ValueError, match="no lap"):
        meter.per(1000)


def test_blocks_inside_blocks_and_after_exceptions() -> None:
    with energy_meter(CPU) as outer:
        with energy_meter(CPU) as inner:
            work(0.1)
        work(0.1)
    assert 0 < value(inner.energy.kwh) < value(outer.energy.kwh)
    polled = PolledPower(lambda: 100.0)
    with pytest.raises(ZeroDivisionError), energy_meter(CPU, gpu=polled):
        _ = 1 / 0
    assert polled._thread is not None and not polled._thread.is_alive()
    with energy_meter(CPU) as after:
        work(0.02)
    assert value(after.energy.kwh) > 0


# --- codecarbon ---


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every try to reach a network, all of which fail."""
    tried: list[Any] = []

    def refuse(*args: Any, **_: Any) -> NoReturn:
        tried.append(args)
        raise OSError("no network here")

    def unless_local(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda s, *args: refuse(s, *args) if s.family in (socket.AF_INET, socket.AF_INET6) else real(s, *args)

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, unless_local(getattr(socket.socket, name)))
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return tried


def test_cpu_energy_is_had_without_a_network(attempts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="no network"), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.connect(("192.0.2.1", 9))
    attempts.clear()
    monkeypatch.setattr(meters, "_resting", [])  # a tracker of its own
    with energy_meter(CPU, place=place("SWE")) as meter:
        work(0.3)
    energy = meter.energy
    assert attempts == []
    assert value(energy.kwh) > 0 and energy.source is energy.host_source
    assert energy.source in (EnergySource.RAPL, EnergySource.ESTIMATED_LOAD, EnergySource.CONSTANT)
    assert value(energy.co2_kg) == pytest.approx(value(energy.kwh) * place("SWE").g_per_kwh / 1000)
    assert energy.place == "SWE"


def test_more_work_is_more_energy() -> None:
    """By any source: a longer block of the same work."""
    with energy_meter(CPU) as short:
        work(0.1)
    with energy_meter(CPU) as long:
        work(0.6)
    assert value(long.energy.kwh) > 2 * value(short.energy.kwh)


METERED = """
import socket, sys, time, torch
def refuse(*_, **__):
    print("network")
    raise OSError("no network here")
socket.create_connection = socket.getaddrinfo = socket.socket.connect = refuse
from bench.meters.energy.meter import energy_meter
with energy_meter(torch.device("cpu")) as meter:
    print("inside", flush=True)
    time.sleep(float(sys.argv[1]))
print(meter.energy.kwh.value)
"""


def test_a_killed_block_does_not_spoil_the_next() -> None:
    command = [sys.executable, "-c", METERED]
    with subprocess.Popen([*command, "600"], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None and killed.stdout.readline() == "inside\n"
        killed.kill()
    assert killed.returncode == -9
    done = subprocess.run([*command, "0.2"], capture_output=True, text=True, timeout=600, check=True)
    inside, kwh = done.stdout.split()  # nothing tried the network
    assert inside == "inside" and 0 < float(kwh) < 1e-3


# --- carbon ---
