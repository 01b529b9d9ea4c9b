"""Closed forms to test samplers against: the exact denoiser of Gaussian data."""

import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.diffusion.batch import column


class GaussianDenoiser(Denoiser):
    """E[x0 | x] for pixels drawn independently from N(mean, variance): mean + variance / (variance + sigma^2) (x - mean)."""

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert isinstance(self.mean, Tensor) and isinstance(self.variance, Tensor)
        noise = column(sigma, x).square()
        return self.mean + self.variance / (self.variance + noise) * (x - self.mean)


def probability_flow_sd(data_variance: float, sigma: float) -> float:
    """Standard deviation of x at noise level sigma; the probability flow maps x linearly from one level's sd to another's."""
    return float(torch.tensor(data_variance + sigma**2, dtype=torch.float64).sqrt())
