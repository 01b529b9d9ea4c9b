"""Features of samples that several slots share, kept on disk until their cell has its record: each slot extracts those of its own samples.

<store>/shards/<cell id>/<signature>-<first>-<images>.features: safetensors, of samples `first`.. in whole batches of the extractor. The
hash of the images is in the name, so that features are those of the very samples that are scored.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bench.metrics.features import BATCH, Extractor, Features
from bench.records.store import write_atomic
from bench.values import digest

Stretch = tuple[int, Features]
"""The first sample, and the features of it and of those that follow it."""


class Extracted:
    """The features of one cell's samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, extractor: Extractor, samples: Tensor, first: int, device: torch.device) -> None:
        """Extract and write those of samples `first`.. (N, C, H, W) that fill batches, which are those of the cell's samples as a whole."""
        begin = -first % BATCH
        whole = samples[begin : begin + (len(samples) - begin) // BATCH * BATCH]
        if len(whole):
            features = extractor(whole, device)
            tensors = {"pooled": features.pooled} | ({} if features.logits is None else {"logits": features.logits})
            name = f"{digest(str(extractor.signature))}-{first + begin:07d}-{_hash_of(whole)}.features"
            write_atomic(self._folder / name, save(tensors))

    def of(self, extractor: Extractor, samples: Tensor, device: torch.device) -> Features:
        """The features of all samples of the cell (N, C, H, W): what lies there, and the rest now."""
        return completed(extractor, samples, device, self._found(extractor, samples))

    def _found(self, extractor: Extractor, samples: Tensor) -> list[Stretch]:
        """What the readable files say of these samples, in order, none over another."""
        kept: list[Stretch] = []
        end = 0
        for path in sorted(self._folder.glob(f"{digest(str(extractor.signature))}-*.features")):
            _, first, images = path.stem.split("-")
            begin = int(first)
            with suppress(OSError, SafetensorError, KeyError):
                tensors = load_file(path)
                features = Features(pooled=tensors["pooled"], logits=tensors.get("logits"))
                count = len(features.pooled)
                if begin >= end and _hash_of(samples[begin : begin + count]) == images:
                    kept.append((begin, features))
                    end = begin + count
        return kept


def _hash_of(samples: Tensor) -> str:
    """First 16 hex digits of the SHA-256 of uint8 samples on the CPU."""
    return hashlib.sha256(samples.contiguous().numpy().data).hexdigest()[:16]


def completed(extractor: Extractor, samples: Tensor, device: torch.device, known: Sequence[Stretch]) -> Features:
    """The features of all samples (N, ...), of which `known` are in order and without overlap; the rest is extracted in its own batches."""
    parts: list[Features] = []
    at = 0
    for first, features in (*known, (len(samples), None)):
        if at < first:
            parts.append(extractor(samples[at:first], device))
        if features is not None:
            parts.append(features)
            at = first + len(features.pooled)
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(pooled=torch.cat([part.pooled for part in parts]), logits=torch.cat(logits) if logits else None)
