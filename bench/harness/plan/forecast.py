"""What a run will take, said before anything runs: from records of the same or of like cells, carried over by FLOPs and throughput.

A cell takes what its nearest record took. Another width, shape or length scales with the FLOPs of the shared network and with the images;
another device with the FLOP/s of the records there and of the shared network here, which is timed for a moment.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from bench.data.images import padded
from bench.harness.assets.trained import ASSET
from bench.harness.machine import device_name
from bench.measures import Measure, measured, missing
from bench.meters.energy.carbon import Place, place
from bench.meters.flops import trajectory_flops
from bench.meters.latency import measure
from bench.nets.ema import frozen, seeded
from bench.nets.unet import UNet, unet_for
from bench.records.store import PUBLISHED, readable
from bench.values import Budget, Cell, Compute, Record, Status, Workload, digest

CALIBRATION_S = 1.0
FIT = "fit"  # the phase that cells of one fitted model share
BYTES_PER_CELL = 100_000  # a record and its grid of samples, rounded up
METHOD = "times of records, scaled by FLOPs, images and throughput"
Speed = Callable[[Cell], float]
"""FLOP/s of this device on the shared network of a cell."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of the cells to do; `unknown` are those that no record says anything of, and are in no sum.

    `uncompiled` are those whose records were made as written, so that the sums lack what compiling their networks takes.
    """

    cells: int
    seconds: Measure
    gpu_hours: Measure
    kwh: Measure
    co2_kg: Measure
    disk_bytes: Measure
    unknown: tuple[str, ...]
    uncompiled: tuple[str, ...] = ()

    def over(self, slots: int) -> "Forecast":
        """Of as many cells at a time, which takes the time alone down."""
        took = self.seconds
        return self if took.value is None else replace(self, seconds=replace(took, value=took.value / slots))


@dataclass(frozen=True, kw_only=True)
class Share:
    """One cell's part: seconds of its training, of its assets' by name, of the rest; kW where its record was made here."""

    fit_key: str
    fit_s: float
    assets_s: dict[str, float]
    rest_s: float
    kw: float | None
    uncompiled: bool


def upcoming(todo: Sequence[Cell], root: Path, device: torch.device, country: str | None) -> Forecast:
    """The forecast of these cells on this device, from the records under `root` and the published ones."""
    absent = {name for cell in todo for name, asset in cell.asset_ids.items() if not (root / "assets" / asset / ASSET).is_file()}
    rates: dict[str, float] = {}

    def speed(cell: Cell) -> float:
        key = f"{cell.workload}{cell.budget}"
        if key not in rates:
            rates[key] = measured_speed(device, cell)
        return rates[key]

    return forecast(todo, absent, readable(root, PUBLISHED), device_name(device), speed, place(country))


def forecast(todo: Sequence[Cell], absent: Collection[str], records: Sequence[Record], device: str, speed: Speed, at: Place) -> Forecast:
    """Of cells to do in their order, with the `absent` assets to train. Shared trainings count once."""
    known = [r for r in records if r.status is Status.OK and r.sample is not None and r.train is not None]
    shares = {cell.label: share(cell, known, device, speed) for cell in todo}
    fits: set[str] = set()
    left, seconds, kwh = set(absent), 0.0, 0.0
    for part in shares.values():
        if part is None:
            continue
        took = part.rest_s + (0.0 if part.fit_key in fits else part.fit_s) + sum(s for name, s in part.assets_s.items() if name in left)
        fits.add(part.fit_key)
        left -= part.assets_s.keys()
        seconds += took
        kwh += took / 3600 * (part.kw or 0.0)
    told = all(part is not None and part.kw is not None for part in shares.values())
    energy = measured(kwh, method=METHOD) if told else missing("not measured: this device has no records of all these cells")
    on_gpu = not device.startswith("CPU")
    unknown = tuple(label for label, part in shares.items() if part is None)
    blind = bool(unknown) and len(unknown) == len(shares)
    time = missing("not measured: no record says anything of these cells") if blind else measured(seconds, method=METHOD)
    return Forecast(
        cells=len(todo),
        seconds=time,
        gpu_hours=_hours(time) if on_gpu else missing("not applicable: no GPU is used"),
        kwh=energy,
        co2_kg=energy if energy.value is None else measured(energy.value * at.g_per_kwh / 1000, method=f"{at.name}, {METHOD}"),
        disk_bytes=measured(len(todo) * BYTES_PER_CELL + sum(asset_bytes(todo[0]) for _ in absent), method="records, samples, assets"),
        unknown=unknown,
        uncompiled=tuple(label for label, part in shares.items() if part is not None and part.uncompiled),
    )


def _hours(time: Measure) -> Measure:
    return time if time.value is None else measured(time.value / 3600, method=METHOD)


def share(cell: Cell, known: Sequence[Record], device: str, speed: Speed) -> Share | None:
    """From the nearest record of the strategy: of these parameters, of this workload and budget, of this device; the newest of equals."""
    alike = sorted((r for r in known if r.cell.strategy == cell.strategy), key=lambda r: r.provenance.started, reverse=True)
    if not alike:
        return None

    def differs(r: Record) -> tuple[bool, ...]:
        return r.cell.params != cell.params, not same_setting(r.cell, cell), ways(r.cell) != ways(cell), r.provenance.device != device

    record = min(alike, key=differs)
    assert record.train is not None and record.sample is not None
    here, other = record.provenance.device == device, record.cell
    size = base_flops(cell.workload, cell.budget) / base_flops(other.workload, other.budget)
    slower = 1.0 if here else device_speed(record, known) / speed(cell)
    train = slower * size * cell.budget.train_images / other.budget.train_images
    draw = slower * size * cell.budget.n_samples / other.budget.n_samples * steps_ratio(cell, other)
    kwh, rate = record.sample.energy.kwh.value, record.sample.images_per_s.value
    return Share(
        fit_key=digest([cell.strategy, cell.seed, {k: v for k, v in cell.params.items() if k not in record.card.sampling_fields}]),
        fit_s=train * _value(record.train.device_s),
        assets_s={name: train * _value(cost.device_s) for name, cost in record.inherited.items()},
        rest_s=max(draw * rest_s(record), cell.budget.energy_s),
        kw=kwh * 3600 * rate / other.budget.n_samples if here and kwh and rate else None,
        uncompiled=any(mine is Compute.FAST and its is not mine for mine, its in zip(ways(cell), ways(other))),
    )


def same_setting(a: Cell, b: Cell) -> bool:
    return (a.workload, a.budget) == (b.workload, b.budget)


def ways(cell: Cell) -> tuple[Compute, Compute]:
    """How its networks are evaluated while sampling and while they train."""
    return cell.compute, cell.budget.training


def rest_s(record: Record) -> float:
    """What a cell took beside its training: sampling, timing, scoring."""
    return record.provenance.wall_s - record.provenance.phases_s.get(FIT, 0.0)


def steps_ratio(cell: Cell, other: Cell) -> float:
    """Sampling grows with the field `steps`, where both have it."""
    wanted, given = cell.params.get("steps"), other.params.get("steps")
    return wanted / given if isinstance(wanted, int) and isinstance(given, int) and given else 1.0


def device_speed(record: Record, known: Sequence[Record]) -> float:
    """Median FLOP/s that sampling reached in the records beside this one."""
    beside = [r for r in known if r.provenance.device == record.provenance.device and same_setting(r.cell, record.cell)]
    rates = [_value(r.sample.flops_per_image) * _value(r.sample.images_per_s) for r in beside if r.sample is not None]
    return median([rate for rate in rates if rate > 0] or [1.0])


@cache
def base_flops(workload: Workload, budget: Budget) -> float:
    """FLOPs of one image through the shared network of this workload and budget."""
    call = partial(_shared_network(workload, budget).forward, *_inputs(workload, 1))
    return trajectory_flops(call).per_image


def measured_speed(device: torch.device, cell: Cell) -> float:
    """FLOP/s of this device on the cell's shared network, by the best call of a second: other work makes the median many times as long."""
    network = _shared_network(cell.workload, cell.budget).to(device)
    inputs = [value.to(device) for value in _inputs(cell.workload, cell.budget.batch_size)]
    with torch.no_grad():
        latency = measure(lambda: network(*inputs), device, CALIBRATION_S)
    return base_flops(cell.workload, cell.budget) * cell.budget.batch_size / min(latency.samples_s)


def asset_bytes(cell: Cell) -> int:
    """Of one trained shared network; the smaller assets count as much."""
    return sum(4 * p.numel() for p in _shared_network(cell.workload, cell.budget).parameters())


@cache
def _shared_network(workload: Workload, budget: Budget) -> UNet:
    channels, side, _ = padded(workload.shape)
    with seeded(0):
        network = unet_for(side, channels, channels, workload.n_classes, budget.width)
    frozen(network)
    return network


def _inputs(workload: Workload, batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, *padded(workload.shape)), torch.zeros(batch)


def _value(measure: Measure) -> float:
    return measure.value or 0.0
