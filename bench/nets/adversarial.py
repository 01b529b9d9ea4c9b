"""The small networks of adversarial training: a mapping of latent variables, and a critic of pairs of noised images.

Xiao, Kreis & Vahdat 2022 (arXiv 2112.07804, appendix C): the latent is normalised and mapped by a multilayer perceptron; the critic is a
residual network of pooled convolutions and leaky rectifiers that is told the time, with a feature of the minibatch's spread before its
last layer. Weights keep the variance of what passes: with smaller ones the critic's logits stay near 0 while the generator moves.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nets.unet import sinusoid

SLOPE = 0.2  # of the leaky rectifiers
COARSEST = 4  # pixels a side, where the critic stops shrinking
GROUP = 4  # images over which a spread is taken


class Mapping(nn.Module):
    """Standard normal latents (B, latent) -> embeddings (B, out), by `layers` hidden layers after a normalisation of each latent."""

    def __init__(self, latent: int, out: int, layers: int) -> None:
        super().__init__()
        widths = [latent, *[out] * (layers - 1)]
        hidden = (module for width in widths for module in (nn.Linear(width, out), nn.SiLU()))
        self.net = nn.Sequential(*hidden, nn.Linear(out, out))
        for module in self.net:
            if isinstance(module, nn.Linear):  # else z would hardly be heard beside the time and the label
                nn.init.kaiming_normal_(module.weight)

    def forward(self, z: Tensor) -> Tensor:
        mapped: Tensor = self.net(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        return mapped


def with_spread(h: Tensor) -> Tensor:
    """Features (B, c, H, W) and one channel more: their mean standard deviation over the image's group, of at most GROUP in the batch.

    Karras et al. 2018 (arXiv 1710.10196, section 3).
    """
    b, c, height, width = h.shape
    group = math.gcd(b, GROUP)
    variance = h.view(group, b // group, c, height, width).var(0, unbiased=False)
    spread = (variance + 1e-8).sqrt().mean((1, 2, 3)).repeat(group)
    return torch.cat([h, spread[:, None, None, None].expand(b, 1, height, width)], dim=1)


class Stage(nn.Module):
    """Residual block that halves the sides: (B, c, H, W) -> (B, 2c, H/2, W/2), shifted by an embedding (B, emb)."""

    def __init__(self, channels: int, emb: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.shift = nn.Linear(emb, 2 * channels)
        self.conv_out = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv_in(F.leaky_relu(x, SLOPE)) + self.shift(emb)[:, :, None, None]
        h = self.conv_out(F.avg_pool2d(F.leaky_relu(h, SLOPE), 2))
        return (h + self.skip(F.avg_pool2d(x, 2))) / 2**0.5


class PairCritic(nn.Module):
    """Logits (B,) that `low` (B, C, H, W) came before `high` (B, C, H, W) on a real image's way into noise, at times t (B,) in 0..1000.

    The label enters with the time, and by its inner product with the features (Miyato & Koyama 2018, arXiv 1802.05637, eq. 3).
    """

    def __init__(self, channels: int, size: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        emb, stages = 4 * width, (size // COARSEST).bit_length() - 1
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label = nn.Embedding(n_classes, emb)
        self.stem = nn.Conv2d(2 * channels, width, 3, padding=1)
        self.stages = nn.ModuleList(Stage(width * 2**k, emb) for k in range(stages))
        features = width * 2**stages
        self.dense = nn.Linear((features + 1) * COARSEST**2, features)
        self.head = nn.Linear(features, 1)
        self.projection = nn.Embedding(n_classes, features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, low: Tensor, high: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        emb = F.leaky_relu(self.time(sinusoid(t, self.width)) + self.label(labels), SLOPE)
        h = self.stem(torch.cat([low, high], dim=1))
        for stage in self.stages:
            h = stage(h, emb)
        h = F.leaky_relu(self.dense(with_spread(F.leaky_relu(h, SLOPE)).flatten(1)), SLOPE)
        return self.head(h)[:, 0] + (h * self.projection(labels)).sum(1) / h.shape[1] ** 0.5
