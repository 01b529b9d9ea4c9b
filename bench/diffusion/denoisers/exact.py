"""Closed forms to test samplers against: exact denoisers of Gaussian data and of mixtures, on any chain."""

import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.data.images import Pixels
from bench.diffusion.batch import column
from bench.diffusion.schedules import linear_alpha_bar, sigma_of


class ExactDenoiser(Denoiser):
    """A denoiser that knows the data, and hence every level; `sigmas` (T,), by default the linear chain, is what samplers choose from."""

    def __init__(self, sigmas: Tensor | None = None) -> None:
        super().__init__()
        self.space, self.null = Pixels(), None
        self.register_buffer("sigmas", sigma_of(linear_alpha_bar()) if sigmas is None else sigmas)


class GaussianDenoiser(ExactDenoiser):
    """E[x0 | x] for pixels drawn independently from N(mean, variance): mean + variance / (variance + sigma^2) (x - mean)."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Tensor, variance: Tensor, sigmas: Tensor | None = None) -> None:
        super().__init__(sigmas)
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        noise = column(sigma, x).square()
        return self.mean + self.variance / (self.variance + noise) * (x - self.mean)


class MixtureDenoiser(ExactDenoiser):
    """E[x0 | x] for pixels drawn independently from a mixture of normals of weights, means and variances, each (K,).

    Given component k it is the Gaussian's; component k has the posterior w_k N(x; mean_k, variance_k + sigma^2).
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor, sigmas: Tensor | None = None) -> None:
        super().__init__(sigmas)
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("variances", variances)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        total = self.variances + column(sigma, x)[..., None].square()
        away = x[..., None] - self.means
        posterior = (self.weights.log() - (total.log() + away.square() / total) / 2).softmax(-1)
        return (posterior * (self.means + self.variances / total * away)).sum(-1)


def probability_flow_sd(data_variance: float, sigma: float) -> float:
    """Standard deviation of x at noise level sigma; the probability flow maps x linearly from one level's sd to another's."""
    return float(torch.tensor(data_variance + sigma**2, dtype=torch.float64).sqrt())
