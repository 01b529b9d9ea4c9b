"""Features of samples that several slots share, kept on disk until their cell has its record: each slot extracts those of its own samples.

<store>/shards/<cell id>/<weights>-<signature>-<first>.features: safetensors, of samples `first`.. in whole batches of the extractor.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bench.harness.store import write_atomic
from bench.metrics.features import BATCH, Extractor, Features, Signature
from bench.values import digest

Stretch = tuple[int, Features]
"""The first sample, and the features of it and of those that follow it."""


class Extracted:
    """The features of one cell, which belong to the weights that drew the samples. `weights` is asked for only where there is a file."""

    def __init__(self, folder: Path, weights: Callable[[], str]) -> None:
        self._folder, self._weights = folder, weights

    def keep(self, extractor: Extractor, samples: Tensor, first: int, device: torch.device) -> None:
        """Extract and write those of samples `first`.. (N, C, H, W) that fill batches, which are those of the cell's samples as a whole."""
        begin = -first % BATCH
        whole = samples[begin : begin + (len(samples) - begin) // BATCH * BATCH]
        if len(whole):
            features = extractor(whole, device)
            tensors = {"pooled": features.pooled} | ({} if features.logits is None else {"logits": features.logits})
            write_atomic(self._folder / f"{self._name(extractor.signature)}-{first + begin:07d}.features", save(tensors))

    def of(self, extractor: Extractor, samples: Tensor, device: torch.device) -> Features:
        """The features of all samples of the cell (N, C, H, W): what lies there, and the rest now."""
        return completed(extractor, samples, device, self._found(extractor.signature))

    def _found(self, signature: Signature) -> list[Stretch]:
        """The readable files in order, none over another."""
        if not any(self._folder.glob("*.features")):
            return []
        kept: list[Stretch] = []
        end = 0
        for path in sorted(self._folder.glob(f"{self._name(signature)}-*.features")):
            first = int(path.stem.rsplit("-", 1)[1])
            with suppress(OSError, SafetensorError, KeyError):
                tensors = load_file(path)
                features = Features(pooled=tensors["pooled"], logits=tensors.get("logits"))
                if first >= end:
                    kept.append((first, features))
                    end = first + len(features.pooled)
        return kept

    def _name(self, signature: Signature) -> str:
        return f"{self._weights()}-{digest(str(signature))}"


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
