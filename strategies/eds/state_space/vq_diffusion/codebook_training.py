"""How a codebook autoencoder is trained."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contract import Kit
from bench.nets.codebook import CodebookAutoencoder, straight_through
from bench.nets.ema import seeded
from bench.training.recipes.autoencoder import AUTOENCODER_SHARE
from bench.training.train import train

COMMITMENT = 0.25  # beta of van den Oord et al. 2017 (arXiv 1711.00937, section 3.2)


def build_codebook(kit: Kit, codes: int) -> CodebookAutoencoder:
    """Untrained, for the kit's images."""
    with seeded(kit.seed):
        return CodebookAutoencoder(kit.workload.shape[0], codes, kit.budget.width).to(kit.device)


def fit_codebook(net: CodebookAutoencoder, kit: Kit, what: str) -> CodebookAutoencoder:
    """L2 + L1 reconstruction, as the shared autoencoder's, and the commitment of the encoder to its codes."""

    def loss(images: Tensor, _labels: Tensor, generator: torch.Generator) -> Tensor:
        z = net.encode(images)
        codes = net.nearest(z)
        quantised = F.embedding(codes, net.decoder.vectors).movedim(-1, 1)
        error = net.decoder.decode(straight_through(z, quantised)) - images
        net.adapt(z, codes, generator)
        return error.square().mean() + 0.1 * error.abs().mean() + COMMITMENT * (z - quantised).square().mean()

    return train(net, loss, kit, images_seen=round(AUTOENCODER_SHARE * kit.budget.train_images), what=what)
