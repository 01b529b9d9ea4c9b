"""The Frechet distance from mergeable sums, its limit for infinitely many images, and the intervals of both.

d^2 = |m_g - m_r|^2 + tr(S_g + S_r - 2 (S_g S_r)^1/2) (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500). The trace of the root is
the sum of the root eigenvalues of U S_g U^T, which is symmetric, with U^T U = S_r: U is computed once for a reference, and is triangular,
so that LAPACK's reduction of the generalised symmetric problem (dsygst) forms the product with a quarter of the work.

The distance of n images is biased by about c / n (Chong & Forsyth 2020, arXiv 1911.07023). Leaving out one of B blocks of images at a time
(Quenouille 1956) gives the line in 1/n whose intercept is the distance at infinity, and the standard error of either. A bootstrap would add
the bias a second time: its percentile interval misses the truth, so there is none here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from scipy.linalg import lapack
from torch import Tensor

from bench.intervals import jackknifed
from bench.measures import Measure, measured, missing

BLOCKS = 20
IMAGES_PER_FEATURE = 10  # below, the bias is no longer a line in 1/n: at d = 256, n = 1024 the interval held the truth in 77 % of trials
CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sufficient statistics in float64: n, sum of x (d,), sum of x x^T (d, d). Added together, they are those of all the images."""

    n: int
    total: Tensor
    outer: Tensor

    @staticmethod
    def of(features: Tensor) -> "Statistics":
        """Of features (n, d), in chunks, so that memory does not grow with n beyond the features themselves."""
        d = features.shape[1]
        total = features.new_zeros(d, dtype=torch.float64)
        outer = features.new_zeros(d, d, dtype=torch.float64)
        for part in features.split(CHUNK):
            x = part.double()
            total += x.sum(0)
            outer += x.T @ x
        return Statistics(n=len(features), total=total, outer=outer)

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(n=self.n + other.n, total=self.total + other.total, outer=self.outer + other.outer)

    @property
    def mean(self) -> Tensor:
        return self.total / self.n

    @property
    def covariance(self) -> Tensor:
        """Unbiased, as torch-fidelity's."""
        return (self.outer - self.n * torch.outer(self.mean, self.mean)) / (self.n - 1)


@dataclass(frozen=True, kw_only=True)
class Root:
    """A reference as the distance needs it: mean (d,), upper triangular U (d, d) with U^T U the covariance, its trace. On the CPU."""

    mean: Tensor
    upper: Tensor
    trace: float


def root_of(reference: Statistics) -> Root:
    """Mean and triangular root of a reference, which may have fewer images than features; rounding below zero is cut off."""
    values, vectors = torch.linalg.eigh(reference.covariance)
    values = values.clamp_min(0.0)
    _, upper = torch.linalg.qr((vectors * values.sqrt()).T, mode="r")
    return Root(mean=reference.mean, upper=upper, trace=float(values.sum()))


def distance(statistics: Statistics, root: Root) -> float:
    """Frechet distance of images with these statistics from the reference."""
    covariance = statistics.covariance
    inner, status = lapack.dsygst(np.array(covariance.numpy(), order="F"), root.upper.numpy().T, itype=2, lower=1, overwrite_a=1)
    assert status == 0, f"dsygst: argument {-status}"
    return _distance(statistics.mean - root.mean, float(covariance.trace()), inner, root)


def left_out(features: Tensor, root: Root, blocks: int = BLOCKS) -> Tensor:
    """Distances (blocks,) float64 of features (n, d) without the k-th of `blocks` runs of consecutive images."""
    z = [part.double() - root.mean for part in features.tensor_split(blocks)]
    total, square = torch.stack([p.sum(0) for p in z]), torch.stack([p.square().sum() for p in z])
    distances = []
    for k, (part, scatter) in enumerate(zip(z, _scatter_without(torch.cat(z) @ root.upper.T, blocks))):
        n, mean = len(features) - len(part), (total.sum(0) - total[k]) / (len(features) - len(part))
        trace = float((square.sum() - square[k] - n * mean.square().sum()) / (n - 1))
        distances.append(_distance(mean, trace, (scatter / (n - 1)).numpy().T, root))
    return torch.tensor(distances, dtype=torch.float64)


def _scatter_without(x: Tensor, blocks: int) -> Iterator[Tensor]:
    """The scatter matrix about their mean of rows x (n, d) without the k-th block; of fewer rows than d their products instead.

    X^T X and X X^T have the same eigenvalues beside zeros.
    """
    few = len(x) < x.shape[1]
    every = x @ x.T if few else x.T @ x
    for part in torch.arange(len(x)).tensor_split(blocks):
        rest = torch.cat([torch.arange(int(part[0])), torch.arange(int(part[-1]) + 1, len(x))])
        if few:
            among = every[rest][:, rest]
            means = among.mean(0)
            yield among - means - means[:, None] + means.mean()
        else:
            total = x.sum(0) - x[part].sum(0)
            yield every - x[part].T @ x[part] - torch.outer(total, total) / len(rest)


def measures(features: Tensor, root: Root, method: str) -> tuple[Measure, Measure]:
    """The distance at n images and its limit at infinity, with 95 % intervals and replicates; the limit needs 10 images a feature."""
    n, d = features.shape
    value = distance(Statistics.of(features), root)
    if n < 2 * BLOCKS:
        few = f"not measured: {n} images make no {BLOCKS} blocks"
        return measured(value, n=n, method=f"{method}; no interval: {n} images"), missing(few)
    without = left_out(features, root)
    finite = jackknifed(value, without.tolist(), n=n, method=f"{method}; interval of the mean distance at this n")
    if n < IMAGES_PER_FEATURE * d:
        return finite, missing(f"not measured: {n:,} images are fewer than {IMAGES_PER_FEATURE} for each of {d:,} features")
    limit = BLOCKS * value - (BLOCKS - 1) * float(without.mean())
    moved = (without - without.mean() + limit).tolist()  # the line's intercept has the spread of the distance itself
    return finite, jackknifed(limit, moved, n=n, method=f"{method}; jackknife line in 1/n over {BLOCKS} blocks")


def _distance(gap: Tensor, trace: float, inner: np.ndarray, root: Root) -> float:
    """From the difference of means (d,), the trace of S_g, and the lower triangle of U S_g U^T (d, d) or of what has its eigenvalues."""
    values = scipy.linalg.eigh(inner, lower=True, eigvals_only=True, driver="evd", overwrite_a=True, check_finite=False)
    noise = len(values) * np.finfo(values.dtype).eps * values[-1]  # of a rank-deficient covariance: its root would count
    return float(gap.square().sum()) + trace + root.trace - 2 * float(np.sqrt(values[values > noise]).sum())
