"""The U-Net that every convolutional strategy shares, so that parameters and FLOPs are comparable.

Residual blocks with group normalisation, scale-and-shift conditioning and self-attention at the coarsest level, after
Ho et al. 2020 (arXiv 2006.11239, appendix B) with the adaptive normalisation of Dhariwal & Nichol 2021 (arXiv 2105.05233, eq. 6).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8


def sinusoid(t: Tensor, width: int) -> Tensor:
    """Sinusoidal features (B, width) of float times t (B,), on the scale 0..1000 of a thousand-step chain."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device, dtype=t.dtype) / half)
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Block(nn.Module):
    """Residual block: (B, c_in, H, W) -> (B, c_out, H, W), modulated by an embedding (B, emb)."""

    def __init__(self, c_in: int, c_out: int, emb: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, c_in)
        self.conv_in = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(emb, 2 * c_out)
        self.norm_out = nn.GroupNorm(GROUPS, c_out)
        self.conv_out = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.skip(x) + self.modulated(self.conv_in(F.silu(self.norm_in(x))), emb)

    def modulated(self, h: Tensor, emb: Tensor) -> Tensor:
        """The residual branch after its first convolution."""
        scale, shift = self.modulation(emb)[:, :, None, None].chunk(2, dim=1)
        return self.conv_out(F.silu(self.norm_out(h) * (1 + scale) + shift))


class Attention(nn.Module):
    """Self-attention over the H*W positions of (B, C, H, W), with heads of `head` channels."""

    def __init__(self, channels: int, head: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, H*W, C/heads)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.out(attended.reshape(b, c, h, w))


class Told(nn.Module):
    """What is told to every block: the time and the label, as one embedding (B, 4 * width).

    Labels are integers 0..n_classes-1; `n_classes` itself is the null label, used where `labels` is None.
    """

    def __init__(self, n_classes: int, width: int) -> None:
        super().__init__()
        emb = 4 * width
        self.n_classes, self.width = n_classes, width
        self.null = n_classes
        self.time = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label = nn.Embedding(n_classes + 1, emb)

    def embedding(self, t: Tensor, labels: Tensor | None, extra: Tensor | None = None) -> Tensor:
        """Float times t (B,) in 0..1000, labels (B,) -> (B, 4 * width); `extra`, of that shape, is added before the non-linearity."""
        if labels is None:
            labels = torch.full((t.shape[0],), self.n_classes, device=t.device)
        emb = self.time(sinusoid(t, self.width)) + self.label(labels)
        return F.silu(emb if extra is None else emb + extra)


class UNet(Told):
    """U-Net over (B, in_channels, H, W); H and W divisible by 2 ** (len(multipliers) - 1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_classes: int,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2),
    ) -> None:
        super().__init__(n_classes, width)
        emb = 4 * width
        channels = [width * m for m in multipliers]
        self.stem = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList(Block(c_in, c_out, emb) for c_in, c_out in zip([width, *channels], channels))
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = nn.ModuleList([Block(channels[-1], channels[-1], emb), Block(channels[-1], channels[-1], emb)])
        self.attention = Attention(channels[-1])
        above = [*channels[1:], channels[-1]]
        self.up = nn.ModuleList(Block(a + c, c, emb) for a, c in zip(above, channels))
        self.grow = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for c in channels[1:])
        self.head_norm = nn.GroupNorm(GROUPS, channels[0])
        self.head = zeroed(nn.Conv2d(channels[0], out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None, extra: Tensor | None = None) -> Tensor:
        """x (B, in, H, W), float times t (B,) in 0..1000, labels (B,) -> (B, out, H, W).

        `extra` (B, 4 * width), where there is one, is added to the embedding of time and label.
        """
        return self.through(x, self.embedding(t, labels, extra), self.attention)

    def through(self, x: Tensor, emb: Tensor, bottom: Callable[[Tensor], Tensor]) -> Tensor:
        """What follows the embedding (B, 4 * width); `bottom` stands in the place of self-attention, between the two middle blocks."""
        h, skips = self.stem(x), []
        for level, block in enumerate(self.down):
            h = block(h, emb)
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.middle[1](bottom(self.middle[0](h, emb)), emb)
        for level in reversed(range(len(self.up))):
            h = self.up[level](torch.cat([h, skips[level]], dim=1), emb)
            if level > 0:
                h = self.grow[level - 1](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.head(F.silu(self.head_norm(h)))


def zeroed(module: nn.Conv2d) -> nn.Conv2d:
    """The layer with all parameters zero, so that its residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def unet_for(size: int, in_channels: int, out_channels: int, n_classes: int, width: int) -> UNet:
    """The shared architecture for square images of `size` pixels: one level more for each doubling, coarsest at 4 to 8 pixels."""
    multipliers = (1, 2) if size <= 8 else (1, 2, 2)
    return UNet(in_channels, out_channels, n_classes, width, multipliers)
