"""Clips of moving things, made from still images under a fixed rule: constant velocity, bouncing inside a window.

After the moving digits of Srivastava et al. 2015 (arXiv 1502.04681, section 3.1), with one thing a clip and a canvas of the image's own
size: the thing is at most a quarter of the side off its place, and what leaves the canvas is cut off.
"""

import torch
from torch import Tensor

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # (down, right)
MOTION_SEED = 20220407


def clips(images: Tensor, frames: int) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 (N, frames, C, H, W); of one set the n-th image always moves alike, in long clips and short."""
    places = offsets(len(images), frames, images.shape[-1]).to(images.device)
    return shifted(images, places)


def directions(count: int) -> Tensor:
    """(count,) int64: which of the eight directions each thing sets out in."""
    return _random(0, 0, len(DIRECTIONS), (count,))


def offsets(count: int, frames: int, side: int) -> Tensor:
    """(count, frames, 2) int64 pixels (down, right) off the image's own place: p0 + v t, reflected at +- side / 4."""
    reach, speed = side // 4, max(1, side // 8)
    start = _random(1, -reach, reach + 1, (count, 1, 2))
    velocity = speed * torch.tensor(DIRECTIONS)[directions(count)][:, None]
    straight = start + velocity * torch.arange(frames)[:, None]
    around = (straight + reach) % (4 * reach)  # there and back is 4 times the reach
    return torch.where(around <= 2 * reach, around, 4 * reach - around) - reach


def shifted(images: Tensor, places: Tensor) -> Tensor:
    """uint8 (N, C, H, W) moved by places (N, F, 2) onto black -> (N, F, C, H, W)."""
    n, _, height, width = images.shape
    down, right = (places[..., axis, None] for axis in (0, 1))
    rows = torch.arange(height, device=images.device) - down  # (N, F, H): where each row comes from
    columns = torch.arange(width, device=images.device) - right
    inside = _within(rows, height)[..., :, None] & _within(columns, width)[..., None, :]
    taken = images.permute(0, 2, 3, 1)[
        torch.arange(n, device=images.device)[:, None, None, None],
        rows.clamp(0, height - 1)[..., :, None],
        columns.clamp(0, width - 1)[..., None, :],
    ]
    return (taken * inside[..., None]).permute(0, 1, 4, 2, 3).contiguous()


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def _random(stream: int, low: int, high: int, shape: tuple[int, ...]) -> Tensor:
    """Integers in low..high - 1, the same for ever."""
    generator = torch.Generator().manual_seed(MOTION_SEED + stream)
    return torch.randint(low, high, shape, generator=generator)
