"""The state that a device is in: clock, temperature, what slows it down, who else uses it. Figures of time and energy hang on it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pynvml
import torch

from bench.measures import Conditions, Measure, measured, missing
from bench.meters.energy.nvml import NoReading, find

CPUINFO = Path("/proc/cpuinfo")
ZONES = Path("/sys/class/thermal")
NOT_ON_CPU = missing("not applicable: a processor tells of it by its clock alone")
SEE_LOAD = missing("not applicable: on a processor the load tells of others")


@dataclass(frozen=True, kw_only=True)
class State:
    """A device at one moment. `throttle` is NVML's bit mask, 0 for none; `foreign` counts processes of others; `load` is the host's."""

    clock_mhz: Measure
    temperature_c: Measure
    throttle: Measure
    foreign: Measure
    load: Measure


def state_of(device: torch.device) -> State:
    """The state now; what the machine does not show has its reason."""
    if device.type == "cuda":
        return gpu_state(str(torch.cuda.get_device_properties(device).uuid))
    return State(clock_mhz=_processor_clock(), temperature_c=_zone(), throttle=NOT_ON_CPU, foreign=SEE_LOAD, load=_load())


def gpu_state(uuid: str, nvml: Any = pynvml) -> State:
    """By NVML, of the card with this UUID."""
    try:
        handle = find(uuid, nvml).handle
    except NoReading as error:
        empty = missing(str(error))
        return State(clock_mhz=empty, temperature_c=empty, throttle=empty, foreign=empty, load=_load())

    def read(function: Callable[[], float], method: str) -> Measure:
        try:
            return measured(float(function()), method=method)
        except nvml.NVMLError as error:
            return missing(f"not measured: NVML gave no reading ({error})")

    return State(
        clock_mhz=read(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM), "NVML, streaming multiprocessors"),
        temperature_c=read(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU), "NVML"),
        throttle=read(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle), "NVML, bit mask of reasons"),
        foreign=read(lambda: sum(p.pid != os.getpid() for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle)), "NVML, other processes"),
        load=_load(),
    )


def conditions_between(before: State, after: State) -> Conditions:
    """Two states as a record holds them: of what slows down and of other processes, all that either saw."""
    return Conditions(
        clock_mhz=(before.clock_mhz, after.clock_mhz),
        temperature_c=(before.temperature_c, after.temperature_c),
        throttle=_either(before.throttle, after.throttle, lambda a, b: int(a) | int(b)),
        foreign_processes=_either(before.foreign, after.foreign, max),
        load=(before.load, after.load),
    )


def _either(a: Measure, b: Measure, join: Callable[[float, float], float]) -> Measure:
    if a.value is None or b.value is None:
        return a if a.value is None else b
    return measured(join(a.value, b.value), method=a.method)


def _processor_clock() -> Measure:
    """Mean over the processors that this machine shows."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return measured(fmean(clocks), n=len(clocks), method=str(CPUINFO)) if clocks else missing("not measured: the system shows no clock")


def _zone() -> Measure:
    """The hottest thermal zone."""
    zones = sorted(ZONES.glob("thermal_zone*/temp"))
    try:
        return measured(max(int(zone.read_text()) / 1000 for zone in zones), n=len(zones), method="hottest thermal zone")
    except (OSError, ValueError):
        return missing("not measured: the system shows no thermal zone")


def _load() -> Measure:
    try:
        return measured(os.getloadavg()[0], method="processes ready to run, mean of a minute")
    except OSError:
        return missing("not measured: the system shows no load")
