"""Adapters from what a network predicts to the one convention `Denoiser`: E[x0 | x] at x = x0 + sigma * n.

The networks see variance-preserving inputs a * x with a = sqrt(abar) and float times t on the scale of the thousand-step chain.
"""

import torch
from torch import Tensor, nn

from bench.contract import Denoiser
from bench.diffusion.batch import column
from bench.diffusion.schedules import alpha_bar_of, linear_alpha_bar, sigma_of, time_of


class ScheduledDenoiser(Denoiser):
    """A network `net(x_t, t, labels)` with the table of sigmas (T,) that its times refer to."""

    sigmas: Tensor

    def __init__(self, net: nn.Module, alpha_bar: Tensor | None = None) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("sigmas", sigma_of(linear_alpha_bar() if alpha_bar is None else alpha_bar))

    def scaled(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a * x, t (B,), a (B, 1, 1, 1)), where a = sqrt(abar) brings x to unit variance."""
        a = column(alpha_bar_of(sigma).sqrt(), x)
        return a * x, time_of(sigma, self.sigmas).to(x.dtype), a


class EpsDenoiser(ScheduledDenoiser):
    """Noise prediction: x0 = x - sigma * eps(a x, t)."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        x_t, t, _ = self.scaled(x, sigma)
        return x - column(sigma, x) * self.net(x_t, t, labels)


class VDenoiser(ScheduledDenoiser):
    """Velocity prediction v = a eps - s x0 (Salimans & Ho 2022, arXiv 2202.00512, appendix D): x0 = a x_t - s v, s = sqrt(1 - abar)."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        x_t, t, a = self.scaled(x, sigma)
        s = column(sigma, x) * a
        return a * x_t - s * self.net(x_t, t, labels)


class ClassifierFree(Denoiser):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, eq. 6): (1 + w) D(x, c) - w D(x), one call of doubled batch.

    At w = 0 it is the conditional denoiser at its own cost.
    """

    def __init__(self, denoiser: Denoiser, weight: float, null: int) -> None:
        super().__init__()
        self.denoiser, self.weight, self.null = denoiser, weight, null

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None, "guidance needs labels"
        if self.weight == 0:
            return self.denoiser(x, sigma, labels)
        both = torch.cat([labels, torch.full_like(labels, self.null)])
        conditional, free = self.denoiser(x.repeat(2, 1, 1, 1), sigma.repeat(2), both).chunk(2)
        return (1 + self.weight) * conditional - self.weight * free
