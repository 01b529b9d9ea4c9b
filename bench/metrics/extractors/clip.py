"""CLIP's image tower, as torch-fidelity brings it."""

from pathlib import Path

import torch
from torch import Tensor

from bench.metrics.features import Extractor, ExtractorUnavailable, rgb, signed
from bench.metrics.source import Source, Weights, checkpoint
from bench.nets.ema import frozen
from bench.values import UserError

CLIP = "clip"
CLIP_FILE = "clip-vit-b-32-40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af.pt"


def file(_weights: Weights) -> Path:
    return checkpoint(CLIP_FILE)


def clip(device: torch.device, _weights: Weights) -> Extractor:
    """CLIP ViT-B/32's image tower with 512 features (arXiv 2103.00020), from torch-fidelity's file in torch's hub cache."""
    path = checkpoint(CLIP_FILE)
    if not path.is_file():
        raise ExtractorUnavailable(f"weights not found: torch's hub cache lacks checkpoints/{CLIP_FILE}")
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP  # inside: rarely needed

    try:
        net = frozen(FeatureExtractorCLIP("clip-vit-b-32", [CLIP], feature_extractor_weights_path=str(path), verbose=False)).to(device)
    except (RuntimeError, KeyError) as error:
        raise UserError(f"unreadable CLIP weights {path}: {str(error).splitlines()[0]}") from error

    def network(images: Tensor) -> tuple[Tensor, None]:
        (pooled,) = net(rgb(images))
        return pooled, None

    return Extractor(name=CLIP, signature=signed("clip-vit-b-32", net, f"tf1-bilinear-{net.resolution}"), network=network)


SOURCE = Source(load=clip, file=file, without="no FD on CLIP")
