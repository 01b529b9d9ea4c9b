"""Two Markov chains over the same states, one from data to noise whose drift is learned, one back: their paths' likelihood ratio.

Zhang & Chen 2021 (arXiv 2110.07579, section 3). In the coordinates x = x0 + sigma * n, over ascending levels sigma_0 = 0 to sigma_N,

    forwards   x_i = x_{i-1} + s_i f(x_{i-1}) + s_i n_i,    s_i^2 = sigma_i^2 - sigma_{i-1}^2
    backwards  x_{i-1} = m_i(x_i) + sqrt(v_i) n_i',    m_i the mean of q(x_{i-1} | x_i, x0 = D(x_i)) of the chain without drift

from x_N ~ N(0, 1 + sigma_N^2). Without drift these are the chains of Ho et al. 2020 (arXiv 2006.11239). For a path drawn forwards, log
q(x_1..x_N | x0) - log p(x0..x_N) is in the mean at least -log p(x0), by the path's divergence (theorem 1).
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.contract import Denoiser
from bench.diffusion.batch import column, everywhere
from bench.diffusion.denoisers.parametrise import ScheduledDenoiser
from bench.diffusion.gaussian import posterior_mean
from bench.diffusion.schedules import alpha_bar_of, time_of


class Drift(ScheduledDenoiser):
    """f (B, C, H, W): the shift of a step forwards, in units of its noise. Called like a denoiser, and on data without noise too,
    which count as the lowest level.
    """

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        t = time_of(sigma.clamp_min(self.sigmas[0]), self.sigmas).to(x.dtype)
        shift: Tensor = self.net(column(alpha_bar_of(sigma).sqrt(), x) * x, t, labels)
        return shift


class TwoWayChain(nn.Module):
    """The networks, the levels (N + 1,) ascending from 0, and the variances (N,) of the steps backwards, float64."""

    sigmas: Tensor
    variances: Tensor

    def __init__(self, denoiser: Denoiser, drift: nn.Module, sigmas: Tensor, variances: Tensor) -> None:
        super().__init__()
        self.denoiser, self.drift = denoiser, drift
        self.register_buffer("sigmas", sigmas)
        self.register_buffer("variances", variances)


@dataclass(frozen=True, kw_only=True, eq=False)
class Path:
    """Of one path for each of B images: |n_i|^2 forwards and |x_{i-1} - m_i(x_i)|^2 backwards, both (B, N) float64, and |x_N|^2 (B,)."""

    forwards: Tensor
    backwards: Tensor
    end: Tensor
    dimensions: int


def path_of(chain: TwoWayChain, x0: Tensor, labels: Tensor, noises: Tensor) -> Path:
    """The path from x0 (B, C, H, W) by unit noises (N, B, C, H, W); differentiable in the weights of both networks."""
    grid = chain.sigmas.tolist()
    x, forwards, backwards = x0, [], []
    for (low, high), noise in zip(itertools.pairwise(grid), noises, strict=True):
        step = (high**2 - low**2) ** 0.5
        after = x + step * (chain.drift(x, everywhere(low, x), labels) + noise)
        guess = chain.denoiser(after, everywhere(high, x), labels)
        forwards.append(squared(noise))
        backwards.append(squared(x - posterior_mean(after, guess, high, low)))
        x = after
    return Path(forwards=torch.stack(forwards, 1), backwards=torch.stack(backwards, 1), end=squared(x), dimensions=x0[0].numel())


def path_nats(path: Path, sigmas: Tensor, variances: Tensor) -> Tensor:
    """log q(x_1..x_N | x0) - log p(x0..x_N) (B,) float64 in nats, for levels (N + 1,) and backward variances (N,)."""
    squares = sigmas.square()
    steps, total = squares.diff(), 1 + squares[-1]
    prior = (path.end / total + path.dimensions * (2 * math.pi * total).log()) / 2
    ratio = path.backwards / variances - path.forwards + path.dimensions * (variances / steps).log()
    return prior + ratio.sum(1) / 2


def best_variances(path: Path) -> Tensor:
    """The backward variances (N,) under which the paths of a batch are likeliest: their mean squared residuals."""
    return path.backwards.detach().mean(0) / path.dimensions


def squared(x: Tensor) -> Tensor:
    """|x|^2 (B,) float64 of each of (B, C, H, W)."""
    return x.double().square().flatten(1).sum(1)
