"""Inception-v3, the network of the Fréchet inception distance, as torch-fidelity brings it."""

from pathlib import Path

import torch
from torch import Tensor

from bench.metrics.features import Extractor, ExtractorUnavailable, rgb, signed
from bench.metrics.source import Source, Weights, checkpoint
from bench.nets.ema import frozen
from bench.values import UserError

INCEPTION = "inception"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


def file(weights: Weights) -> Path:
    return weights.inception or checkpoint(INCEPTION_FILE)


def inception(device: torch.device, weights: Weights) -> Extractor:
    """torch-fidelity's Inception-v3 with 2048 features and 1008 unbiased logits, images resized as TensorFlow 1 did.

    Raises ExtractorUnavailable without weights, UserError for a path that does not hold them.
    """
    path = file(weights)
    if not path.is_file() and not weights.download:
        if weights.inception is not None:
            raise UserError(f"Inception weights not found: {path}")
        raise ExtractorUnavailable("weights not found")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # inside: seconds, rarely needed

    if path.is_file():
        _refuse_pickle(path)
    given = str(path) if path.is_file() else None
    net = frozen(FeatureExtractorInceptionV3(INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=given)).to(device)

    def network(images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, logits = net(rgb(images))
        return pooled, logits

    return Extractor(name=INCEPTION, signature=signed("inception-v3-compat", net, "tf1-bilinear-299"), network=network)


def _refuse_pickle(path: Path) -> None:
    """torch-fidelity loads with full pickle; look first whether the file holds tensors alone."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"unreadable Inception weights {path}: {str(error).splitlines()[0]}") from error


SOURCE = Source(load=inception, file=file, without="no FID; see --inception-weights and --download")
