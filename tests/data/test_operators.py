"""Degradations: each is what it says, by a direct computation, and its singular value decomposition is exact."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.cards import Degradation
from bench.data.operators import BLUR_STD, NEGLIGIBLE, LinearOperator, operator

SIDE = 16
EVERY = pytest.mark.parametrize("degradation", list(Degradation))


def images(count: int = 3, channels: int = 2) -> Tensor:
    return torch.randn(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def of(degradation: Degradation) -> LinearOperator:
    return operator(degradation, 2, SIDE)


def direct(degradation: Degradation, x: Tensor) -> Tensor:
    """The degradation by indexing, pooling and convolution."""
    match degradation:
        case Degradation.INPAINT:
            quarter = SIDE // 4
            outside = torch.ones(SIDE, SIDE, dtype=torch.bool)
            outside[quarter:-quarter, quarter:-quarter] = False
            return x[:, :, outside]
        case Degradation.SUPER_2:
            return F.avg_pool2d(x, 2).flatten(2)
        case Degradation.SUPER_4:
            return F.avg_pool2d(x, 4).flatten(2)
        case Degradation.DEBLUR:
            taps = torch.exp(-(torch.arange(-SIDE + 1.0, SIDE) ** 2) / (2 * (BLUR_STD * SIDE) ** 2))
            kernel, channels = taps[:, None] * taps, x.shape[1]

            def sums(v: Tensor) -> Tensor:
                return F.conv2d(v, kernel.expand(channels, 1, -1, -1), padding=SIDE - 1, groups=channels)

            return (sums(x) / sums(torch.ones_like(x))).flatten(2)


@EVERY
def test_operator_is_the_degradation(degradation: Degradation) -> None:
    x, op = images(), of(degradation)
    wanted = direct(degradation, x).flatten(1)
    error = (op(x) - wanted).abs().max()
    lost = NEGLIGIBLE * x.flatten(2).norm(dim=2).max() if degradation is Degradation.DEBLUR else 0  # singular values taken for zero
    assert op(x).shape == (3, op.rows) and error <= 1e-5 + lost, float(error)


@EVERY
def test_decomposition_is_exact(degradation: Degradation) -> None:
    x, op = images(), of(degradation)
    spectrum = op.to_spectrum(x)
    assert torch.allclose(op.from_spectrum(spectrum), x, atol=1e-5)
    assert torch.allclose(spectrum.norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-5)  # V is a rotation
    assert torch.allclose(op.observed_spectrum(op(x)), op.singular_values * spectrum, atol=1e-5)  # U^T H x = S V^T x


@EVERY
def test_pseudo_inverse_is_consistent(degradation: Degradation) -> None:
    """x' = V S^+ U^T y explains the observation: H x' = y."""
    op = of(degradation)
    y, s = op(images()), op.singular_values
    guess = op.from_spectrum(torch.where(s > 0, op.observed_spectrum(y) / s.clamp(min=NEGLIGIBLE / 10), 0.0))
    assert torch.allclose(op(guess), y, atol=1e-4)


def test_rank() -> None:
    ranks = {d: int((of(d).singular_values > 0).sum()) // 2 for d in Degradation}
    assert ranks[Degradation.INPAINT] == SIDE**2 * 3 // 4
    assert ranks[Degradation.SUPER_2] == SIDE**2 // 4 and ranks[Degradation.SUPER_4] == SIDE**2 // 16
    assert 0 < ranks[Degradation.DEBLUR] < SIDE**2  # some directions are lost
