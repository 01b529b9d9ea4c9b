"""A U-Net of clips: the shared U-Net on every frame, and attention over time where it attends over space.

After Ho et al. 2022 (arXiv 2204.03458, section 3). A clip of F frames travels as a picture of F * C channels, frame after frame, so that
loops, bounds and adapters of images serve clips too.
"""

import torch
from torch import Tensor, nn

from bench.nets.unet import GROUPS, UNet, zeroed


class TemporalAttention(nn.Module):
    """Self-attention over the frames at each position, with a learned bias for each relative position in time and each head.

    `reach` is the longest distance in frames that is told apart from longer ones.
    """

    def __init__(self, channels: int, reach: int, head: int = 32) -> None:
        super().__init__()
        self.heads, self.reach = max(1, channels // head), reach
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, h: Tensor, frames: int, apart: int) -> Tensor:
        """(B * frames, C, H, W) -> the same; the last `apart` frames see themselves alone and are seen by nobody else."""
        n, c, height, width = h.shape
        qkv = self.qkv(self.norm(h)).reshape(n // frames, frames, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.permute(2, 0, 5, 3, 1, 4)  # each (B, H*W, heads, frames, C/heads)
        scores = q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5 + self.biases(frames, apart)
        attended = (scores.softmax(-1) @ v).permute(0, 3, 2, 4, 1)  # (B, frames, heads, C/heads, H*W)
        return h + self.out(attended.reshape(n, c, height, width))

    def biases(self, frames: int, apart: int) -> Tensor:
        """(heads, frames, frames): added to the scores of each frame for each other, minus infinity where it is not seen."""
        place = torch.arange(frames, device=self.bias.device)
        distance = place[None, :] - place[:, None]
        blocked = (torch.maximum(place[None, :], place[:, None]) >= frames - apart) & (distance != 0)
        return self.bias[:, distance.clamp(-self.reach, self.reach) + self.reach].masked_fill(blocked, -torch.inf)


class SpaceTimeUNet(nn.Module):
    """Clips (B, F * C, H, W) -> (B, F * C, H, W) by a U-Net `space` of frames (C, H, W) with `channels` = C at its outer ends."""

    def __init__(self, space: UNet, channels: int, frames: int) -> None:
        super().__init__()
        self.space, self.channels, self.null = space, channels, space.null
        self.time = TemporalAttention(space.head_norm.num_channels * 2, reach=frames - 1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None, apart: int = 0) -> Tensor:
        """Float times t (B,) in 0..1000; labels (B,), or (B, F) of each frame; the last `apart` frames are independent of all others."""
        b, depth, height, width = x.shape
        frames = depth // self.channels
        if labels is not None:
            labels = labels.reshape(b, -1).expand(b, frames).flatten()
        emb = self.space.embedding(t.repeat_interleave(frames), labels)
        each = x.reshape(b * frames, self.channels, height, width)
        return self.space.through(each, emb, lambda h: self.time(self.space.attention(h), frames, apart)).reshape(x.shape)
