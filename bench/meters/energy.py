"""Energy and carbon of a block, each with its source.

GPU energy is the difference of NVML's hardware counter; processor, memory and carbon come from codecarbon, offline. A GPU without a
counter makes the whole figure absent: it is never 0, and never only the processor's part.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from bench.values import Energy, EnergySource, measured, missing

WORLD_G_PER_KWH = 475.0  # codecarbon's world mean, used as no place is assumed
JOULES_PER_KWH = 3.6e6
Counter = Callable[[], float]
"""Joules used so far by the device."""


class Meter:
    """`energy` holds the result once the block has ended; `seconds` is left to the clock of the caller."""

    energy: Energy


@lru_cache(maxsize=1)
def _tracker() -> Any:
    logging.getLogger("codecarbon").disabled = True
    from codecarbon import OfflineEmissionsTracker  # inside: two seconds of hardware scan

    return OfflineEmissionsTracker(
        save_to_file=False,
        log_level="critical",
        tracking_mode="process",
        allow_multiple_runs=True,
        measure_power_secs=1,
        force_carbon_intensity_g_co2e_kwh=WORLD_G_PER_KWH,
        gpu_ids=[],
    )


def nvml_counter(device: torch.device) -> Counter | None:
    """The hardware energy counter of a CUDA device, or None where it has none."""
    import pynvml  # inside: only where there is a GPU

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


@contextmanager
def energy_meter(device: torch.device, counter: Counter | None = None) -> Iterator[Meter]:
    """Measure a block. `counter` overrides the GPU's own, for tests."""
    meter, on_gpu = Meter(), device.type == "cuda" or counter is not None
    counter = counter or (nvml_counter(device) if on_gpu else None)
    tracker = _tracker()
    before = counter() if counter else 0.0
    tracker.start_task()
    try:
        yield meter
    finally:
        _synchronise(device)
        data = tracker.stop_task()
        gpu_kwh = (counter() - before) / JOULES_PER_KWH if counter else 0.0
        meter.energy = combine(data.energy_consumed if data else None, gpu_kwh, on_gpu, counter is not None)


def combine(host_kwh: float | None, gpu_kwh: float, on_gpu: bool, has_counter: bool) -> Energy:
    """One figure from its parts, or the reason why there is none."""
    if on_gpu and not has_counter:
        return _absent("not measured: this GPU has no energy counter")
    if on_gpu and gpu_kwh <= 0:
        return _absent("failed: the GPU's energy counter did not move")
    if host_kwh is None or host_kwh <= 0:
        return _absent("failed: codecarbon reported no energy")
    kwh = host_kwh + gpu_kwh
    return Energy(
        kwh=measured(kwh, method="NVML counter + estimated host" if on_gpu else "codecarbon: processor load x rated power"),
        co2_kg=measured(kwh * WORLD_G_PER_KWH / 1000, method=f"{WORLD_G_PER_KWH:g} g/kWh, world mean"),
        source=EnergySource.NVML_COUNTER if on_gpu else EnergySource.ESTIMATED_LOAD,
        carbon_g_per_kwh=WORLD_G_PER_KWH,
    )


def _absent(reason: str) -> Energy:
    return Energy(kwh=missing(reason), co2_kg=missing(reason), source=None, carbon_g_per_kwh=None)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
