"""The shared convolutional autoencoder of latent methods: factor 2, continuous latents with unit standard deviation.

A small analogue of the KL-regularised first stage of Rombach et al. 2022 (arXiv 2112.10752, section 3.1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.contract import Kit
from bench.nets.unet import GROUPS


class Residual(nn.Module):
    """(B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_out(F.silu(self.conv_in(F.silu(self.norm(x)))))


class Decoder(nn.Module):
    """Scaled latents (B, Z, H/2, W/2) -> images (B, C, H, W) in [-1, 1] up to overshoot."""

    scale: Tensor

    def __init__(self, channels: int, latent: int, width: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.net = nn.Sequential(
            nn.Conv2d(latent, 2 * width, 3, padding=1),
            Residual(2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(width),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z * self.scale)


class Autoencoder(nn.Module):
    """`encode` to latents of unit standard deviation, `decode` back. `scale` is the raw latents' standard deviation."""

    factor = 2

    def __init__(self, channels: int, latent: int, width: int) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            Residual(width),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * width, 2 * width, 3, padding=1),
            Residual(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * latent, 3, padding=1),
        )
        self.decoder = Decoder(channels, latent, width)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, Z, H/2, W/2) of the raw latents of images x (B, C, H, W)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior mean in units of `scale`."""
        return self.posterior(x)[0] / self.decoder.scale

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


def codec_of(kit: Kit) -> Autoencoder:
    """The kit's autoencoder, by its type."""
    codec = kit.autoencoder()
    assert isinstance(codec, Autoencoder)
    return codec
