"""What is measured: numbers with intervals, energy, costs, conditions. Standard library only; frozen, keyword-only, units in the names.

A number that was not measured is a `Measure` without value but with a reason: an empty cell does not exist.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum


class EnergySource(StrEnum):
    """Where a figure of energy comes from, best first."""

    NVML_COUNTER = "nvml_counter"
    NVML_POWER = "nvml_power"
    RAPL = "rapl"
    ESTIMATED_LOAD = "estimated_load"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number with its 95 % interval and method, or the reason why there is none.

    `replicates` are the values with the k-th block of images left out, the blocks being the same in every strategy: what a paired
    comparison is made of.
    """

    value: float | None = None
    reason: str | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    method: str | None = None
    replicates: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (not self.reason):
            raise ValueError(f"a measure has a value or a reason, and not both: {self.value!r}, {self.reason!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a measured value is finite, not {self.value!r}")


def measured(value: float, *, n: int | None = None, method: str | None = None) -> Measure:
    """A measure of a finite number; not finite is told as a reason, never as a number."""
    if not math.isfinite(value):
        return missing(f"failed: the value is {value}")
    return Measure(value=float(value), n=n, method=method)


def missing(reason: str) -> Measure:
    return Measure(reason=reason)


NOT_RECORDED = missing("not recorded: the version that made this record had no such measure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of a training, or of drawing `Budget.n_samples` images: the device's and the host's share, with their sources.

    `source` is that of the greater part (the GPU's on a GPU). `idle_w` is the device's power at rest before the run; nothing is
    subtracted. `place` is the ISO code or name of the place whose carbon intensity of `carbon_year` was used.
    """

    kwh: Measure
    co2_kg: Measure
    source: EnergySource | None = None
    carbon_g_per_kwh: float | None = None
    gpu_kwh: Measure = NOT_RECORDED
    host_kwh: Measure = NOT_RECORDED
    host_source: EnergySource | None = None
    idle_w: Measure = NOT_RECORDED
    window_s: Measure = NOT_RECORDED
    place: str | None = None
    carbon_year: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainCost:
    """Cost of one `fit` or one asset. `gpu_days` is device-seconds / 86400 on a GPU, absent on a CPU; `v100_days` weighs them by device.

    `peak_bytes` is what it needed beyond what was there before, `peak_total_bytes` the highest level, weights and all.
    """

    images_seen: Measure
    device_s: Measure
    gpu_days: Measure
    peak_bytes: Measure
    energy: Energy
    v100_days: Measure = NOT_RECORDED
    devices: int = 1
    peak_total_bytes: Measure = NOT_RECORDED


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCost:
    """Cost of sampling. `flops_per_image` counts 2 per multiply-add over the whole trajectory and all networks.

    `nfe_per_image` counts rows of the networks that are told a noise level; `calls_per_image` those of all, codecs among them.
    `peak_bytes` is what sampling needed beyond what was there before, `peak_total_bytes` the highest level, weights and all.
    `flops_by_operation` splits it by operation; `free_operations` are those that ran and were priced at nothing. `break_even_images` are
    as many as save the `compile_s` of networks that are compiled.
    """

    steps: Measure
    nfe_per_image: Measure
    calls_per_image: dict[str, float]
    flops_per_image: Measure
    params: Measure
    buffer_bytes: Measure
    latency_p50_s: Measure
    latency_p95_s: Measure
    images_per_s: Measure
    best_batch: Measure
    peak_bytes: Measure
    energy: Energy
    peak_total_bytes: Measure = NOT_RECORDED
    compile_s: Measure = NOT_RECORDED
    break_even_images: Measure = NOT_RECORDED
    flops_by_operation: dict[str, float] = field(default_factory=dict)
    free_operations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The device's state around the timings, (before, after): what a figure of time or energy depends on beside the code."""

    clock_mhz: tuple[Measure, Measure]
    temperature_c: tuple[Measure, Measure]
    throttle: Measure
    foreign_processes: Measure
    load: tuple[Measure, Measure]
