"""Between the world's images, uint8 (B, C, H, W), and a model's, float32 in [-1, 1] with sides divisible by 8.

One rule for all methods: where a side is not divisible by 8, black is added around the image, the larger half below and to the right;
on the way back it is cut off.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

MULTIPLE = 8


def padded(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The model's (C, H, W) for images of `shape`."""
    channels, height, width = shape
    return channels, height + -height % MULTIPLE, width + -width % MULTIPLE


def to_model(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) -> float32 in [-1, 1], padded."""
    x = images.float() / 127.5 - 1
    return F.pad(x, _margins(tuple(images.shape[1:])), value=-1.0)


def to_uint8(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Float (B, C, H', W') in [-1, 1] -> uint8 (B, *shape): cut, clipped, rounded to the nearest grey level.

    Raises FloatingPointError for values that are not numbers, which would come out as some colour or other.
    """
    if not x.isfinite().all():
        raise FloatingPointError("the sampler's images hold values that are not finite")
    left, _, top, _ = _margins(shape)
    inside = x[..., top : top + shape[1], left : left + shape[2]]
    return ((inside + 1) * 127.5).round().clamp(0, 255).byte()


@dataclass(frozen=True)
class Pixels:
    """The `Space` of models of images themselves."""

    limits: tuple[float, float] = (-1.0, 1.0)

    def state(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return padded(shape)

    def encode(self, images: Tensor) -> Tensor:
        return to_model(images)

    def decode(self, x: Tensor, shape: tuple[int, int, int]) -> Tensor:
        return to_uint8(x, shape)


def _margins(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(left, right, top, bottom)."""
    extra_h, extra_w = -shape[-2] % MULTIPLE, -shape[-1] % MULTIPLE
    return extra_w // 2, extra_w - extra_w // 2, extra_h // 2, extra_h - extra_h // 2
