"""Feature extractors: uint8 images in, features and class logits out, with a signature that names every choice.

The data set's own classifiers are trained here, apart from every network that strategies may use. Networks with weights of their own are
in `extractors`, a file each.
"""

import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.data.images import to_model
from bench.nets.classifier import Classifier
from bench.nets.clip_classifier import ClipClassifier

BATCH = 64  # fixed: on a GPU features move with the batch size


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features (N, d) and, where the network is a classifier, logits (N, k); float32 on the CPU."""

    pooled: Tensor
    logits: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Everything that features depend on beside the images."""

    network: str
    weights: str
    resize: str
    dtype: str
    batch: int = BATCH
    versions: str = f"torch {importlib.metadata.version('torch')}, torch-fidelity {importlib.metadata.version('torch-fidelity')}"

    def __str__(self) -> str:
        return f"{self.network}:{self.weights}, resize {self.resize}, {self.dtype}, batch {self.batch}, {self.versions}"


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """`network` maps a uint8 batch (B, C, H, W) to features (B, d) and logits (B, k) or None."""

    name: str
    signature: Signature
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]]

    @torch.no_grad()
    def __call__(self, images: Tensor, device: torch.device) -> Features:
        """One pass, in full float32 and in batches of a fixed size; results leave the device once."""
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            parts = [self.network(part.to(device)) for part in images.split(BATCH)]
        logits = [given.float() for _, given in parts if given is not None]
        return Features(
            pooled=torch.cat([features.float() for features, _ in parts]).cpu(),
            logits=torch.cat(logits).cpu() if logits else None,
        )


class ExtractorUnavailable(Exception):
    """The weights are not on this machine; the message is the reason that empty cells will show."""


def weights_hash(module: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 of a module's state: names and bytes."""
    state = module.state_dict()
    content = hashlib.sha256()
    for key in sorted(state):
        content.update(key.encode())
        content.update(state[key].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def signed(network: str, weights: nn.Module, resize: str) -> Signature:
    """The signature of a network: hash and dtype are read from the weights themselves."""
    dtype = next(p.dtype for p in weights.parameters())
    return Signature(network=network, weights=weights_hash(weights), resize=resize, dtype=str(dtype).removeprefix("torch."))


def own_classifier(dataset: str, classifier: Classifier) -> Extractor:
    """The data set's own classifier: 64 features of its last hidden layer, at the images' own size."""
    classifier = classifier.eval()
    dtype = classifier.head.weight.dtype

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = classifier(to_model(images).to(dtype))
        return features, logits

    return Extractor(name=dataset, signature=signed(f"{dataset}-classifier", classifier, "none"), network=network)


def clip_classifier(dataset: str, classifier: ClipClassifier) -> Extractor:
    """The data set's own classifier of moving images: 64 features of clips (B, F, C, H, W); the logits are those of what moves."""
    classifier = classifier.eval()

    def network(clips: Tensor) -> tuple[Tensor, Tensor]:
        features, of_class, _of_direction = classifier(to_model(clips))
        return features, of_class

    return Extractor(name=f"{dataset}_clips", signature=signed(f"{dataset}-clip-classifier", classifier, "none"), network=network)


def rgb(images: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> (B, 3, H, W)."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def file_hash(path: Path) -> str:
    """First 16 hex digits of a file's SHA-256, or `absent`."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "absent"
