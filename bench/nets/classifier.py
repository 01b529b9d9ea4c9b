"""Two classifiers with one trunk: of clean images, whose features serve the metrics, and of noised images, whose gradient guides."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.diffusion.schedules import alpha_bar_of, linear_alpha_bar, sigma_of, time_of
from bench.nets.unet import GROUPS, sinusoid

FEATURES = 64


class Classifier(nn.Module):
    """Images (B, C, H, W) in [-1, 1] -> (features (B, 64), logits (B, n_classes)); an embedding (B, 2 * width) may shift the trunk."""

    def __init__(self, channels: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.shrink = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(GROUPS, 2 * width)
        self.conv = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)
        self.dense = nn.Linear(2 * width * 4, FEATURES)
        self.head = nn.Linear(FEATURES, n_classes)

    def forward(self, x: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.norm(self.shrink(F.silu(self.stem(x))))
        h = h if shift is None else h + shift[:, :, None, None]
        h = F.adaptive_avg_pool2d(F.silu(self.conv(F.silu(h))), 2).flatten(1)
        features = F.silu(self.dense(h))
        return features, self.head(features)


class NoisyClassifier(nn.Module):
    """p(y | x) for x = x0 + sigma * n: (x (B, C, H, W), sigma (B,)) -> logits (B, n_classes). Less noise than it was taught counts as its
    least, so that it sees images without any.
    """

    sigmas: Tensor

    def __init__(self, channels: int, n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.trunk = Classifier(channels, n_classes, width)
        self.time = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.register_buffer("sigmas", sigma_of(linear_alpha_bar()))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.both(x, sigma)[1]

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(features (B, 64), logits (B, n_classes)), by one pass."""
        a = alpha_bar_of(sigma).sqrt().to(x.dtype)[:, None, None, None]
        times = time_of(sigma.clamp_min(self.sigmas[0]), self.sigmas).to(x.dtype)
        features, logits = self.trunk(a * x, self.time(sinusoid(times, self.width)))
        return features, logits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is the label's."""
    return float((logits.argmax(1) == labels).double().mean())


@torch.no_grad()
def predictions(classifier: Classifier, images: Tensor, batch: int = 512) -> Tensor:
    """Logits (N, n_classes) of model images (N, C, H, W)."""
    return torch.cat([classifier(part)[1] for part in images.split(batch)])
