"""A U-Net that is told a set of tokens by cross-attention.

Rombach et al. 2022 (arXiv 2112.10752, section 3.3): softmax(Q K^T / sqrt(d)) V with queries of the image, keys and values of the tokens.
Nothing here adds a constant to what the tokens say, so that tokens of zeros say nothing, and there is no order among them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.nets.unet import GROUPS, UNet, zeroed


class CrossAttention(nn.Module):
    """The positions of (B, C, H, W) attend to tokens given by their keys and values (B, k, 2 C), with heads of 32 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1, bias=False))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.query(self.norm(x)).reshape(b, self.heads, c // self.heads, h * w).transpose(-1, -2)
        k, v = context.reshape(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)  # each (B, heads, k, C/heads)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.out(attended.reshape(b, c, h, w))


class ContextUNet(nn.Module):
    """A U-Net with cross-attention after its self-attention. Under a context of zeros it is the U-Net, exactly."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet
        self.channels, self.n_classes, self.null = unet.attention.norm.num_channels, unet.n_classes, unet.null
        self.cross = CrossAttention(self.channels)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor, context: Tensor) -> Tensor:
        """x (B, in, H, W), float times t (B,) in 0..1000, labels (B,), keys and values (B, k, 2 channels) -> (B, out, H, W)."""

        def bottom(h: Tensor) -> Tensor:
            attended: Tensor = self.cross(self.unet.attention(h), context)
            return attended

        return self.unet.through(x, self.unet.embedding(t, labels), bottom)


def with_nothing(table: Tensor) -> Tensor:
    """Contexts (N, k, d) and, as number N, the empty one: zeros (N + 1, k, d)."""
    return torch.cat([table, torch.zeros_like(table[:1])])


class Conditioned(nn.Module):
    """A `ContextUNet` without labels that is told contexts by their number in a table (N, k, d): (x, t, numbers (B,)) -> (B, out, H, W).

    `encode` makes keys and values (B, k, 2 channels) of rows of the table, which is data, and no part of the network's state.
    """

    def __init__(self, net: ContextUNet, encode: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.net, self.encode, self.table = net, encode, table
        self.null = len(table) - 1  # the empty context

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor) -> Tensor:
        nobody = torch.full_like(numbers, self.net.null)
        out: Tensor = self.net(x, t, nobody, self.encode(self.table[numbers]))
        return out
