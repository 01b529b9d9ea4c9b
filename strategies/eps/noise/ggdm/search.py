"""The search for a sampler's coefficients by back-propagation through its steps and a frozen denoiser.

Watson, Chan, Ho & Norouzi 2022 (arXiv 2202.05830, section 4): the loss is the kernel distance of features between samples and data, with a
linear kernel and its unbiased estimate; each call of the network is checkpointed, so that memory does not grow with the steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.contract import Denoiser
from bench.diffusion.schedules import sigma_at
from bench.training.draws import BatchDraws
from bench.training.train import Loss
from strategies.eps.noise.ggdm.sampler import Plan, follow, marginals

Features = Callable[[Tensor], Tensor]
"""Model images (B, C, H, W) -> features (B, D), differentiable."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """What the distance needs of the real features f_1..f_n (n, D): their mean (D,) and the mean of f_i . f_j over all pairs i != j, ()."""

    mean: Tensor
    pairs: Tensor


def moments(features: Tensor) -> Moments:
    """Of features (n, D), n at least 2."""
    return Moments(mean=features.mean(0), pairs=mean_of_pairs(features))


def mean_of_pairs(features: Tensor) -> Tensor:
    """Mean of f_i . f_j over the pairs i != j of (n, D): |sum f|^2 without its diagonal."""
    n = len(features)
    return (features.sum(0).square().sum() - features.square().sum()) / (n * (n - 1))


def linear_kid(features: Tensor, real: Moments) -> Tensor:
    """Unbiased squared maximum mean discrepancy with the kernel f . g (Binkowski et al. 2018, arXiv 1801.01401, eq. 4); may be negative."""
    return mean_of_pairs(features) - 2 * features.mean(0) @ real.mean + real.pairs


class Displacements(nn.Module):
    """Free variables, all zero at the start, where `plan` is DDIM over `times` (K,), descending, of the table of sigmas (T,).

    Their units make one learning rate fit all: a weight counts in noise of the level arrived at, per noise of the state weighed; a time in
    equal shares of the schedule.
    """

    times: Tensor
    table: Tensor
    ratio: Tensor
    unit: Tensor

    def __init__(self, times: Tensor, table: Tensor) -> None:
        super().__init__()
        k = len(times)
        sigmas = torch.cat([table[times], table.new_zeros(1)])
        arrived = torch.cat([sigmas[1:-1], sigmas[-2:-1]])  # at the image itself: in noise of the last level
        self.register_buffer("times", times.double())
        self.register_buffer("table", table)
        self.register_buffer("ratio", sigmas[1:] / sigmas[:-1])
        self.register_buffer("unit", arrived)
        self.w = nn.Parameter(table.new_zeros(k, k))
        self.shift, self.noise, self.time = (nn.Parameter(table.new_zeros(k)) for _ in range(3))

    def coefficients(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(sigma of the first level (), w (K, K), shift (K,), noise (K,))."""
        levels = sigma_at(self.times, self.table)
        w = torch.diag(self.ratio) + (self.unit[:, None] / levels * self.w).tril()
        return levels[0], w, self.shift, self.unit * self.noise

    def implied(self) -> Plan:
        """The network is told each state's marginal: divided by m, at the noise level sqrt(v) / m. The variables `time` have no part."""
        sigma, w, shift, noise = self.coefficients()
        m, v = marginals(sigma, w, shift, noise)
        return Plan(start=(1 + sigma**2).sqrt(), w=w, shift=shift, noise=noise, scale=m, level=v.sqrt() / m)

    def free(self) -> Plan:
        """The network is told a level that is learned by its time. With w and shift free, the estimate's two coefficients are so too."""
        sigma, w, shift, noise = self.coefficients()
        times = self.times + len(self.table) / len(self.times) * self.time
        level = sigma_at(times, self.table)
        return Plan(start=(1 + sigma**2).sqrt(), w=w, shift=shift, noise=noise, scale=torch.ones_like(shift), level=level)


def search_loss(plan: Callable[[], Plan], denoiser: Denoiser, features: Features, real: Moments) -> Loss:
    """The distance of one batch of samples, of the labels drawn, from the data."""

    def estimate(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        x0: Tensor = checkpoint(denoiser, x, sigma, labels, use_reentrant=False, preserve_rng_state=False)
        return x0

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        draws = BatchDraws(len(images), generator)
        _, c, h, w = images.shape
        return linear_kid(features(follow(estimate, plan(), labels, draws, (c, h, w))), real)

    return loss
