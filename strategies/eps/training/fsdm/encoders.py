"""Encoders of a set of images: one embedding for a network that is to draw more of their kind. The order of the set does not matter."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nets.classifier import Classifier

LEAST_PATCH = 4  # pixels to a side: smaller patches show no strokes, and their mean is almost the same for every class
LARGEST_GRID = 4  # patches to a side
PLACE_STD = 0.3
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
        patch = max(LEAST_PATCH, side // LARGEST_GRID)
        self.patches = ShiftedPatches(channels, patch)
        self.places = nn.Parameter(nn.init.normal_(torch.empty((side // patch) ** 2, WIDTH), std=PLACE_STD))
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.out = silent(nn.Linear(WIDTH, out))

    def forward(self, support: Tensor) -> Tensor:
        """Model images (B, n, C, H, W) -> (B, out)."""
        patches = self.patches(support.flatten(0, 1)) + self.places  # (B n, L, 64)
        tokens = patches.reshape(len(support), -1, WIDTH)
        for layer in self.layers:
            tokens = layer(tokens)
        embedding: Tensor = self.out(self.norm(tokens).mean(1))
        return embedding


class ShiftedPatches(nn.Module):
    """Each patch beside the same patch of the image moved by half a patch along the four diagonals, normalised, as one token.

    Shifted patch tokenisation (Lee et al. 2021, arXiv 2112.13492, section 4.1): a token sees its surroundings from the start, which small
    training sets do not teach.
    """

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch, self.shift = patch, patch // 2
        inputs = 5 * channels * patch**2
        self.norm, self.token = nn.LayerNorm(inputs), nn.Linear(inputs, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W), H and W divisible by the patch -> tokens (N, H W / patch^2, 64), row after row."""
        away = (-self.shift, self.shift)
        moved = [F.pad(x, (across, -across, down, -down)) for down in away for across in away]
        patches = F.unfold(torch.cat([x, *moved], dim=1), self.patch, stride=self.patch)
        tokens: Tensor = self.token(self.norm(patches.transpose(1, 2)))
        return tokens


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
