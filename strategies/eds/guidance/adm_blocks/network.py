"""The U-Net of ADM, at the size of the shared one: what its ablation changes, and nothing else.

Dhariwal & Nichol 2021 (arXiv 2105.05233, section 3): an image is halved and doubled inside residual blocks, as in BigGAN; attention follows
every block of every level below the input's, in both halves; its heads are many and narrow. The adaptive normalisation is in both networks.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nets.unet import GROUPS, Attention, Block, Told, zeroed

HEAD = 8  # channels of a head: a quarter of the shared network's width, as 64 are of 256 in the paper (table 11)
MULTIPLIERS = {1: (1.0, 1.75), 2: (1.0, 1.75, 1.75)}  # by halvings; in place of 1, 2 and 1, 2, 2: the same number of parameters

Resample = Callable[[Tensor], Tensor]
"""(B, C, H, W) -> (B, C, H', W')."""


def halved(x: Tensor) -> Tensor:
    """The means of 2x2 blocks."""
    return F.avg_pool2d(x, 2)


def doubled(x: Tensor) -> Tensor:
    """Every pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class ResamplingBlock(Block):
    """A residual block of as many channels out as in that resamples both its ways, the residual one before its first convolution."""

    def __init__(self, channels: int, emb: int, resample: Resample) -> None:
        super().__init__(channels, channels, emb)
        self.resample = resample

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.resample(x) + self.modulated(self.conv_in(self.resample(F.silu(self.norm_in(x)))), emb)


class AdmUNet(Told):
    """U-Net over (B, in_channels, H, W) with `channels` of each level; H and W divisible by 2 ** (len(channels) - 1)."""

    def __init__(self, in_channels: int, out_channels: int, n_classes: int, channels: Sequence[int]) -> None:
        super().__init__(n_classes, channels[0])
        emb, last = 4 * channels[0], channels[-1]
        self.stem = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList(Block(a, c, emb) for a, c in zip([channels[0], *channels], channels))
        self.look_down = looks(channels)
        self.shrink = nn.ModuleList(ResamplingBlock(c, emb, halved) for c in channels[:-1])
        self.middle = nn.ModuleList([Block(last, last, emb), Block(last, last, emb)])
        self.attention = Attention(last, HEAD)
        self.up = nn.ModuleList(Block(a + c, c, emb) for a, c in zip([*channels[1:], last], channels))
        self.look_up = looks(channels)
        self.grow = nn.ModuleList(ResamplingBlock(c, emb, doubled) for c in channels[1:])
        self.head_norm = nn.GroupNorm(GROUPS, channels[0])
        self.head = zeroed(nn.Conv2d(channels[0], out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (B, in, H, W), float times t (B,) in 0..1000, labels (B,) -> (B, out, H, W)."""
        emb = self.embedding(t, labels)
        h, skips = self.stem(x), []
        for level, block in enumerate(self.down):
            h = self.look_down[level](block(h, emb))
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h, emb)
        h = self.middle[1](self.attention(self.middle[0](h, emb)), emb)
        for level in reversed(range(len(self.up))):
            h = self.look_up[level](self.up[level](torch.cat([h, skips[level]], dim=1), emb))
            if level > 0:
                h = self.grow[level - 1](h, emb)
        return self.head(F.silu(self.head_norm(h)))


def looks(channels: Sequence[int]) -> nn.ModuleList:
    """Attention at every level but the first."""
    return nn.ModuleList([nn.Identity(), *(Attention(c, HEAD) for c in channels[1:])])


def adm_unet_for(size: int, in_channels: int, out_channels: int, n_classes: int, width: int) -> AdmUNet:
    """As many levels as `unet_for` has, and as many parameters within 5 % where the width is a multiple of 32."""
    multipliers = MULTIPLIERS[1 if size <= 8 else 2]
    channels = [GROUPS * max(1, round(width * m / GROUPS)) for m in multipliers]
    return AdmUNet(in_channels, out_channels, n_classes, channels)
