"""Real images as the scores need them, extracted once and kept on disk under everything they depend on."""

import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bench.data.datasets import DataSet
from bench.metrics import fidelity
from bench.metrics.features import Extractor, Signature
from bench.metrics.fidelity import Reference
from bench.metrics.frechet import Root, Statistics, distance, root_of
from bench.records.store import write_atomic
from bench.values import digest

FILE = "features.safetensors"


def reference_key(signature: Signature, images_hash: str) -> str:
    """Changes with a pixel of the images, a weight of the network, the resizing, the dtype, the batch size or a version."""
    return digest(["reference", str(signature), images_hash])


def reference(extractor: Extractor, data: DataSet, folder: Path, device: torch.device) -> tuple[Reference, float, Tensor]:
    """The training images' reference, the distance of two disjoint halves of all real images, and the test images' features (M, d).

    From disk where they lie there.
    """
    path = folder / f"reference-{reference_key(extractor.signature, data.hash)}" / FILE
    found = _load(path)
    if found is None:
        found = _extract(extractor, data, device)
        write_atomic(path, save(found))
    root = Root(mean=found["mean"], upper=found["upper"], trace=float(found["trace"]))
    return Reference(pooled=found["pooled"], root=root, images_hash=data.hash), float(found["halves"]), found["held_out"]


def _extract(extractor: Extractor, data: DataSet, device: torch.device) -> dict[str, Tensor]:
    train, held_out = (extractor(images, device).pooled for images in (data.train_images, data.test_images))
    real = torch.cat([train, held_out])
    root = root_of(Statistics.of(train))
    first, second = (Statistics.of(real[half]) for half in fidelity.split_halves(len(real)))
    halves = distance(first, root_of(second))
    return {
        "pooled": train.contiguous(),
        "mean": root.mean,
        "upper": root.upper.contiguous(),
        "trace": torch.tensor(root.trace, dtype=torch.float64),
        "held_out": held_out.contiguous(),
        "halves": torch.tensor(halves, dtype=torch.float64),
    }


def _load(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file; a damaged one is set aside and made anew."""
    if not path.is_file():
        return None
    try:
        found = load_file(path)
    except (OSError, SafetensorError):
        path.rename(path.with_suffix(f".unreadable-{time.time_ns()}"))
        return None
    return found if {"pooled", "held_out", "mean", "upper", "trace", "halves"} <= found.keys() else None
