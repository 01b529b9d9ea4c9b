"""Coarse drawings to be edited into images, made from real ones: flat blocks in a few grey levels.

Like the stroke paintings of Meng et al. 2022 (arXiv 2108.01073, section 5) they keep where and how bright, and lose what; being made by a
rule and not by hand, each has the image that it was made from.
"""

from torch import Tensor
from torch.nn import functional as F

BLOCKS = 4  # to a side
LEVELS = 4  # of brightness in each channel


def drawings(images: Tensor) -> Tensor:
    """uint8 (N, C, H, W), sides divisible by 4 -> uint8 of the same shape: means of 4 x 4 blocks, rounded to one of 4 levels."""
    height, width = images.shape[-2:]
    if height % BLOCKS or width % BLOCKS:
        raise ValueError(f"a drawing of {BLOCKS} x {BLOCKS} blocks needs sides divisible by {BLOCKS}, not {height} x {width}")
    means = F.avg_pool2d(images.float(), (height // BLOCKS, width // BLOCKS))
    step = 255 / (LEVELS - 1)
    flat = (means / step).round() * step
    return F.interpolate(flat, size=(height, width), mode="nearest").round().byte()
