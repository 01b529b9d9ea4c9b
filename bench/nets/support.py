"""Encoders of a set of images: one embedding for a network that is to draw more of their kind. The order of the set does not matter."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nets.classifier import Classifier

GRID = 4  # patches to a side
WIDTH = 64
HEADS = 4
DEPTH = 2


class SetTransformer(nn.Module):
    """Patches of all images of a set attend to each other; their mean is the embedding.

    The set version of a vision transformer of Giannone et al. 2022 (arXiv 2205.15463, section 3); smaller than its six layers.
    """

    def __init__(self, channels: int, side: int, out: int) -> None:
        """For square images of `side` pixels, divisible by 4; `out` numbers in the embedding."""
        super().__init__()
        self.patches = nn.Conv2d(channels, WIDTH, side // GRID, stride=side // GRID)
        self.places = nn.Parameter(nn.init.normal_(torch.empty(GRID * GRID, WIDTH), std=0.02))
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = silent(nn.Linear(WIDTH, out))

    def forward(self, support: Tensor) -> Tensor:
        """Model images (B, n, C, H, W) -> (B, out)."""
        patches = self.patches(support.flatten(0, 1)).flatten(2).transpose(1, 2) + self.places  # (B n, 16, 64)
        tokens = patches.reshape(len(support), -1, WIDTH)
        for layer in self.layers:
            tokens = layer(tokens)
        embedding: Tensor = self.out(self.norm(tokens).mean(1))
        return embedding


class MeanOfImages(nn.Module):
    """Each image alone through a small convolutional network, then the mean: the plain way, for comparison."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.each = Classifier(channels, WIDTH)
        self.out = silent(nn.Linear(WIDTH, out))

    def forward(self, support: Tensor) -> Tensor:
        """Model images (B, n, C, H, W) -> (B, out)."""
        images = self.each(support.flatten(0, 1))[1]
        embedding: Tensor = self.out(images.unflatten(0, support.shape[:2]).mean(1))
        return embedding


class Layer(nn.Module):
    """Self-attention and a two-layer network on tokens (B, L, 64), each after a norm and added to its input (arXiv 2010.11929)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.mixed = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_in(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, L, 16)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.mixed(attended)
        return x + self.narrow(F.gelu(self.wide(self.norm_out(x))))


def silent(layer: nn.Linear) -> nn.Linear:
    """The layer with all parameters zero: at first the set says nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
