"""Counter-based random numbers: each draw is a pure function of (image seed, draw index, position).

The bits are those of SplitMix64 (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195) used as a keyed hash of a counter, in int64
tensor arithmetic, so that any device and any batch gives the same numbers up to the rounding of log and cos. No global state.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
MIX_A = -4658895280553007687  # 0xBF58476D1CE4E5B9
MIX_B = -7723592293110705685  # 0x94D049BB133111EB
STRIDE = 0x5851F42D4C957F2D  # between draws
AHEAD = 16  # draws whose keys are hashed in one go


def mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser, a bijection of int64 with full avalanche; products wrap modulo 2**64."""
    z = (z ^ _shift(z, 30)).mul_(MIX_A)
    z = z.bitwise_xor_(_shift(z, 27)).mul_(MIX_B)
    return z.bitwise_xor_(_shift(z, 31))


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch shifts int64 arithmetically, so the copied sign bits are masked off."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


@lru_cache(maxsize=64)
def _counters(count: int, device: torch.device) -> Tensor:
    """(count,) int64: the positions of a draw, spread over all bits. Kept, as a small network's step waits for every operation."""
    return torch.arange(1, count + 1, device=device, dtype=torch.int64) * GOLDEN


class SeededDraws:
    """The `Draws` of one request: a running draw index over the seeds (B,) int64."""

    def __init__(self, seeds: Tensor) -> None:
        self._keys = mix(seeds * GOLDEN)
        self._index = 0

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32 by Box and Muller, two normals from each 64 bits."""
        count = math.prod(shape)
        bits = self._bits((count + 1) // 2)
        u = _shift(bits, 32).float().add_(0.5).mul_(2.0**-32)  # (0, 1]: float32 may round up to 1, whose log is 0
        angle = bits.bitwise_and_(0xFFFFFFFF).float().mul_(2.0 * math.pi * 2.0**-32)
        radius = u.log_().mul_(-2.0).clamp_min_(0.0).sqrt_()
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return both[:, :count].reshape(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32 multiples of 2**-24 in [0, 1)."""
        bits = self._bits(math.prod(shape))
        return (_shift(bits, 40).float() * 2.0**-24).reshape(-1, *shape)

    def _bits(self, count: int) -> Tensor:
        """(B, count) int64 of the next draw."""
        ahead = self._index % AHEAD
        if ahead == 0:
            draws = torch.arange(self._index, self._index + AHEAD, device=self._keys.device)
            self._streams = mix(self._keys + (draws * STRIDE).bitwise_and_(2**63 - 1)[:, None])
        stream = self._streams[ahead]
        self._index += 1
        return mix(stream[:, None] + _counters(count, stream.device))
