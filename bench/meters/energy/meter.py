"""Energy and carbon of a block, in parts with their sources.

The GPU's part comes from NVML. Processor and memory come from codecarbon, offline, in process mode: RAPL of the whole package where the
machine has it, otherwise a model of this process's load; memory is always a model. A part that cannot be had makes the sum absent: it is
never 0, and never the other part alone. Nothing is subtracted, and no overhead of a data centre is added.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch

from bench.intervals import student
from bench.measures import Energy, EnergySource, Measure, measured, missing
from bench.meters.energy.carbon import WORLD, Place
from bench.meters.energy.host import Host
from bench.meters.energy.nvml import GpuEnergy, NoReading, gpu_energy, idle_power_w
from bench.meters.latency import synchronise

JOULES_PER_KWH = 3.6e6
NO_GPU = missing("not applicable: no GPU is used")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a block: the units of work done in it, its length, and what each part used, or why that is unknown."""

    units: float
    seconds: float
    gpu_kwh: Measure
    host_kwh: Measure


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a block is measured with. `gpu` is None where no GPU is used."""

    gpu: GpuEnergy | None
    host_source: EnergySource | None
    idle_w: Measure
    place: Place


class Meter:
    """What `energy_meter` yields: `lap` works inside the block, `energy` and `per` after it."""

    def __init__(self, device: torch.device, host: Host, gpu: GpuEnergy | None, place: Place, idle_w: Measure) -> None:
        self._device, self._host, self._gpu, self._place, self._idle_w = device, host, gpu, place, idle_w
        self._laps: list[Span] = []
        self._tail: Span | None = None
        synchronise(device)
        host.start()
        self._time, self._joules = time.perf_counter(), _reading(gpu)

    def lap(self, units: float) -> None:
        """End a trial that covered `units` images, and begin the next. Waits for the device; the host's part misses some 5 ms."""
        if units <= 0:
            raise ValueError(f"a lap covers a positive number of units, not {units}")
        self._laps.append(self._cut(units))
        self._host.start()

    def end(self) -> None:
        """End the block."""
        self._tail = self._cut(1.0)

    @property
    def energy(self) -> Energy:
        """Of the whole block, as one trial."""
        spans = [*self._laps, self._ended()]
        whole = Span(
            units=1.0,
            seconds=sum(s.seconds for s in spans),
            gpu_kwh=_sum([s.gpu_kwh for s in spans]),
            host_kwh=_sum([s.host_kwh for s in spans]),
        )
        return energy_of([whole], 1.0, self._setting())

    def per(self, units: float) -> Energy:
        """Of `units` images: the mean over the laps, with its 95 % interval. What follows the last lap is left out."""
        self._ended()
        return energy_of(self._laps, units, self._setting())

    def _cut(self, units: float) -> Span:
        """The stretch from the last cut until the device is idle. GPU readings are shared by neighbours, so that none of it is lost."""
        synchronise(self._device)
        now, joules = time.perf_counter(), _reading(self._gpu)
        gpu_kwh = _scaled(_used(self._joules, joules), 1 / JOULES_PER_KWH)
        span = Span(units=units, seconds=now - self._time, gpu_kwh=gpu_kwh, host_kwh=self._host.kwh())
        self._time, self._joules = now, joules
        return span

    def _ended(self) -> Span:
        if self._tail is None:
            raise RuntimeError("the metered block has not ended")
        return self._tail

    def _setting(self) -> Setting:
        return Setting(gpu=self._gpu, host_source=self._host.source, idle_w=self._idle_w, place=self._place)


_resting: list[Host] = []  # kept, as a tracker costs a scan of the hardware; a block inside a block takes another


@contextmanager
def energy_meter(device: torch.device, *, place: Place = WORLD, gpu: GpuEnergy | None = None) -> Iterator[Meter]:
    """Measure a block. `gpu` stands in for the device's own source. After an exception there is no figure."""
    idle_w = idle_power(device)
    gpu = gpu or gpu_source(device)
    host = _resting.pop() if _resting else Host()
    if gpu is not None:
        gpu.start()
    try:
        meter = Meter(device, host, gpu, place, idle_w)
        yield meter
        meter.end()
    finally:
        if gpu is not None:
            gpu.stop()
        host.kwh()  # ends a stretch that an exception left open
        _resting.append(host)


def gpu_source(device: torch.device) -> GpuEnergy | None:
    """How the device's energy is read; None for a CPU. One that cannot be read has the source None and a reason."""
    return gpu_energy(_uuid(device)) if device.type == "cuda" else None


def idle_power(device: torch.device) -> Measure:
    """The device's power at rest in W: read for a second at the first call for a device, so call it before the device has work."""
    return _idle_power(_uuid(device)) if device.type == "cuda" else NO_GPU


@lru_cache
def _idle_power(uuid: str) -> Measure:
    return idle_power_w(uuid)


def energy_of(spans: Sequence[Span], units: float, setting: Setting) -> Energy:
    """Energy of `units` of work from one trial or several: units times the mean over the trials of kWh per unit."""
    if not spans:
        raise ValueError("no lap was ended")
    window, gpu, place = sum(s.seconds for s in spans), setting.gpu, setting.place
    trials = f"{len(spans)} laps in {window:.3g} s" if len(spans) > 1 else f"1 trial of {window:.3g} s"
    covered = [s.units / units for s in spans]
    gpu_kwh = NO_GPU if gpu is None else _mean([s.gpu_kwh for s in spans], covered, _still(gpu, window), f"{gpu.source}, {trials}")
    host_kwh = _mean([s.host_kwh for s in spans], covered, "failed: codecarbon reported no energy", f"{setting.host_source}, {trials}")
    if setting.host_source is None:
        host_kwh = missing("not measured: codecarbon reads this processor in a way that is unknown here")
    if gpu is None:
        kwh = host_kwh
    elif gpu_kwh.value is None or host_kwh.value is None:
        kwh = missing(gpu_kwh.reason or host_kwh.reason or "")
    else:
        sums = [_sum([s.gpu_kwh, s.host_kwh]) for s in spans]
        kwh = _mean(sums, covered, "", f"{gpu.source} + {setting.host_source}, {trials}")
    known = kwh.value is not None
    return Energy(
        kwh=kwh,
        co2_kg=_scaled(kwh, place.g_per_kwh / 1000, f"{place.g_per_kwh:g} g/kWh, {place.name}; {place.source}"),
        source=(setting.host_source if gpu is None else gpu.source) if known else None,
        carbon_g_per_kwh=place.g_per_kwh if known else None,
        gpu_kwh=gpu_kwh,
        host_kwh=host_kwh,
        host_source=setting.host_source,
        idle_w=setting.idle_w,
        window_s=measured(window),
        place=place.name if known else None,
        carbon_year=place.year if known else None,
    )


def _still(gpu: GpuEnergy, window_s: float) -> str:
    """Why a total of the GPU did not move."""
    if window_s < 2 * gpu.refresh_s:
        return f"not measured: {window_s:.2g} s is too short for an energy counter that moves about every {gpu.refresh_s:g} s"
    return f"failed: the GPU's energy did not move in {window_s:.3g} s"


def _mean(parts: Sequence[Measure], covered: Sequence[float], still: str, method: str) -> Measure:
    """Mean of part / covered with its 95 % t-interval; `still` is the reason where nothing was used at all."""
    total = _sum(parts)
    if total.value is None:
        return total
    values = [p.value / c for p, c in zip(parts, covered) if p.value is not None]
    if total.value == 0:
        return missing(still)
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return measured(mean, n=1, method=method)
    reach = student(n - 1) * statistics.stdev(values) / n**0.5
    return Measure(value=mean, low=mean - reach, high=mean + reach, n=n, method=method)


def _reading(gpu: GpuEnergy | None) -> Measure:
    """The GPU's running total in joules."""
    if gpu is None:
        return NO_GPU
    try:
        return measured(gpu.joules())
    except NoReading as error:
        return missing(str(error))


def _used(before: Measure, after: Measure) -> Measure:
    used = _sum([after, _scaled(before, -1.0)])
    return missing("failed: the GPU's energy counter ran backwards") if used.value is not None and used.value < 0 else used


def _sum(parts: Sequence[Measure]) -> Measure:
    """The sum, or the first reason why there is none."""
    lost = next((p for p in parts if p.value is None), None)
    return lost or measured(sum(p.value for p in parts if p.value is not None))


def _scaled(measure: Measure, factor: float, method: str | None = None) -> Measure:
    if measure.value is None:
        return measure
    low, high = (None if end is None else end * factor for end in (measure.low, measure.high))
    return Measure(value=measure.value * factor, low=low, high=high, n=measure.n, method=method)


def _uuid(device: torch.device) -> str:
    return str(torch.cuda.get_device_properties(device).uuid)
