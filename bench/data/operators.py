"""Linear degradations of images with their singular value decompositions: what a restoration is given, and what it may use.

The four of Kawar et al. 2022 (arXiv 2201.11793, section 5): a hole, block means, a blur. Each acts on every channel alike, as one dense
matrix over the pixels of a channel: exact, and small beside a network up to 64 x 64 pixels.
"""

import torch
from torch import Tensor, nn

from bench.cards import Degradation

BLUR_STD = 0.12  # of the Gaussian kernel, as a share of the side
NEGLIGIBLE = 3e-2  # singular values below, of a blur, count as zero: dividing by them would blow up rounding and noise


class Matrix(nn.Module):
    """x (B, C, n) -> x M^T (B, C, m), for M (m, n)."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix.float())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T


class LinearOperator(nn.Module):
    """The same H = U S V^T on every channel of (B, C, side, side); spectra hold channel after channel."""

    singular_values: Tensor

    def __init__(self, matrix: Tensor, channels: int, side: int, negligible: float = 1e-6) -> None:
        """`matrix` (m, side * side) float64; singular values up to `negligible` are taken for zero, in H too."""
        super().__init__()
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=True)
        s = torch.where(s > negligible, s, 0.0)
        self.channels, self.side = channels, side
        kept, pixels = len(s), side * side
        self.rows = channels * matrix.shape[0]
        self.apply_h = Matrix((u[:, :kept] * s) @ vt[:kept])
        self.apply_vt, self.apply_v = Matrix(vt), Matrix(vt.T)
        self.apply_ut = Matrix(torch.cat([torch.diag((s > 0).double()) @ u[:, :kept].T, u.new_zeros(pixels - kept, len(u))]))
        padded = torch.cat([s, s.new_zeros(pixels - kept)])
        self.register_buffer("singular_values", padded.repeat(channels).float())

    def forward(self, x: Tensor) -> Tensor:
        """H x: (B, C, side, side) -> (B, rows)."""
        return self._flat(self.apply_h(x.flatten(2)))

    def to_spectrum(self, x: Tensor) -> Tensor:
        """V^T x: (B, C, side, side) -> (B, d)."""
        return self._flat(self.apply_vt(x.flatten(2)))

    def from_spectrum(self, z: Tensor) -> Tensor:
        """V z: (B, d) -> (B, C, side, side)."""
        pixels: Tensor = self.apply_v(z.unflatten(1, (self.channels, -1)))
        return pixels.unflatten(2, (self.side, self.side))

    def observed_spectrum(self, y: Tensor) -> Tensor:
        """U^T y: (B, rows) -> (B, d), zero where the singular value is."""
        return self._flat(self.apply_ut(y.unflatten(1, (self.channels, -1))))

    @staticmethod
    def _flat(x: Tensor) -> Tensor:
        return x.flatten(1)


def operator(degradation: Degradation, channels: int, side: int) -> LinearOperator:
    """The degradation of square model images with `side` pixels, divisible by 8."""
    match degradation:
        case Degradation.INPAINT:
            return LinearOperator(outside_hole(side), channels, side)
        case Degradation.SUPER_2:
            return LinearOperator(block_means(side, 2), channels, side)
        case Degradation.SUPER_4:
            return LinearOperator(block_means(side, 4), channels, side)
        case Degradation.DEBLUR:
            return LinearOperator(blur(side), channels, side, NEGLIGIBLE)


def outside_hole(side: int) -> Tensor:
    """(side^2 * 3 / 4, side^2): the pixels outside a square hole of half the side in the middle."""
    kept = torch.ones(side, side, dtype=torch.bool)
    kept[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = False
    return torch.eye(side * side, dtype=torch.float64)[kept.flatten()]


def block_means(side: int, factor: int) -> Tensor:
    """((side / factor)^2, side^2): means of factor x factor pixels."""
    along = torch.eye(side // factor, dtype=torch.float64).repeat_interleave(factor, dim=1) / factor
    return torch.kron(along, along)


def blur(side: int) -> Tensor:
    """(side^2, side^2): a separable Gaussian kernel whose weights inside the picture sum to 1."""
    place = torch.arange(side, dtype=torch.float64)
    along = torch.exp(-((place[:, None] - place) ** 2) / (2 * (BLUR_STD * side) ** 2))
    along = along / along.sum(1, keepdim=True)
    return torch.kron(along, along)
