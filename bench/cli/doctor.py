"""What this machine offers, said before a run finds out."""

from dataclasses import dataclass

import torch

from bench.data.datasets import LOADERS, DataSource, load
from bench.harness import machine as environment
from bench.harness.assets.compiled import told_format
from bench.meters.energy.host import host_source
from bench.meters.energy.meter import gpu_source
from bench.meters.energy.nvml import NoGpuEnergy
from bench.metrics.source import Source, Weights, sources
from bench.registry import discover
from bench.values import UserError


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    good: bool
    finding: str


def examine() -> list[Finding]:
    """Device, energy source, number format of fast networks, packages, strategies, Inception weights, data sets."""
    device = environment.pick_device(None)
    found = [Finding("device", True, environment.device_name(device)), _energy(device)]
    found.append(Finding("fast networks", True, f"compiled, in {told_format(device)}"))
    found += [Finding(name, version != "absent", version) for name, version in environment.versions().items()]
    registry = discover()
    found.append(Finding("strategies", True, f"{len(list(registry))} registered"))
    found += [Finding(f"plug-in {p.origin}", False, p.reason) for p in registry.problems]
    found += [_weights(name, source) for name, source in sources().items()]
    return found + [_data(name) for name in LOADERS]


def _energy(device: torch.device) -> Finding:
    gpu = gpu_source(device)
    match gpu:
        case None:
            return Finding("energy", True, f"{host_source() or 'unknown'} of the processor, by codecarbon")
        case NoGpuEnergy(reason):
            return Finding("energy", False, reason)
    return Finding("energy", True, f"{gpu.source} of the GPU")


def _weights(name: str, source: Source) -> Finding:
    path = source.file(Weights())
    return Finding(f"{name} weights", path.is_file(), str(path) if path.is_file() else f"not found: {source.without}")


def _data(name: str) -> Finding:
    try:
        data = load(name, DataSource())
    except UserError as error:
        return Finding(f"data {name}", False, str(error))
    return Finding(f"data {name}", True, f"{len(data.train_images):,} train, {len(data.test_images):,} test, hash {data.hash}")
