"""DINOv2's small vision transformer, as torch-fidelity brings it."""

import contextlib
import io
from pathlib import Path

import torch
from torch import Tensor

from bench.metrics.features import Extractor, ExtractorUnavailable, rgb, signed
from bench.metrics.source import Source, Weights, checkpoint
from bench.nets.ema import frozen

DINOV2 = "dinov2"
DINOV2_FILES = ("facebookresearch_dinov2_main/hubconf.py", "checkpoints/dinov2_vits14_pretrain.pth")


def file(_weights: Weights) -> Path:
    return checkpoint(Path(DINOV2_FILES[1]).name)


def dinov2(device: torch.device, _weights: Weights) -> Extractor:
    """DINOv2 ViT-S/14 with 384 features (arXiv 2304.07193), from torch's hub cache: repository and checkpoint; never downloaded."""
    absent = [name for name in DINOV2_FILES if not (Path(torch.hub.get_dir()) / name).is_file()]
    if absent:
        raise ExtractorUnavailable(f"weights not found: torch's hub cache lacks {', '.join(absent)}")
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2  # inside: rarely needed

    with contextlib.redirect_stderr(io.StringIO()):  # the hub tells of its cache
        net = frozen(FeatureExtractorDinoV2("dinov2-vit-s-14", ["dinov2"])).to(device)

    def network(images: Tensor) -> tuple[Tensor, None]:
        (pooled,) = net(rgb(images))
        return pooled, None

    return Extractor(name=DINOV2, signature=signed("dinov2-vit-s-14", net, "tf1-bilinear-224"), network=network)


SOURCE = Source(load=dinov2, file=file, without="no FD on DINOv2")
