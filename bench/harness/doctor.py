"""What this machine offers, said before a run finds out."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.datasets import LOADERS, DataSource, load
from bench.harness import environment
from bench.meters.energy import nvml_counter
from bench.metrics.features import INCEPTION_FILE
from bench.registry import discover
from bench.values import UserError


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    good: bool
    finding: str


def examine() -> list[Finding]:
    """Device, energy source, packages, strategies, Inception weights, data sets."""
    device = environment.pick_device(None)
    found = [Finding("device", True, environment.device_name(device)), _energy(device)]
    found += [Finding(name, version != "absent", version) for name, version in environment.versions().items()]
    registry = discover()
    found.append(Finding("strategies", True, f"{len(list(registry))} registered"))
    found += [Finding(f"plug-in {p.origin}", False, p.reason) for p in registry.problems]
    weights = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    found.append(
        Finding(
            "Inception weights",
            weights.is_file(),
            str(weights) if weights.is_file() else "not found: no FID; see --inception-weights and --download",
        )
    )
    return found + [_data(name) for name in LOADERS]


def _energy(device: torch.device) -> Finding:
    if device.type != "cuda":
        return Finding("energy", True, "estimated from processor load by codecarbon")
    has_counter = nvml_counter(device) is not None
    return Finding("energy", has_counter, "NVML energy counter" if has_counter else "this GPU has no energy counter")


def _data(name: str) -> Finding:
    try:
        data = load(name, DataSource())
    except UserError as error:
        return Finding(f"data {name}", False, str(error))
    return Finding(f"data {name}", True, f"{len(data.train_images):,} train, {len(data.test_images):,} test, hash {data.hash}")
