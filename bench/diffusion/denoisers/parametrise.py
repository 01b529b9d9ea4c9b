"""Adapters from what a network predicts to the one convention `Denoiser`: E[x0 | x] at x = x0 + sigma * n.

The networks see variance-preserving inputs a * x with a = sqrt(abar) and float times t of their own chain.
"""

import torch
from torch import Tensor, nn

from bench.contract import Denoiser, Space
from bench.data.images import Pixels
from bench.diffusion.batch import column
from bench.diffusion.schedules import alpha_bar_of, linear_alpha_bar, sigma_of, time_of

PIXELS = Pixels()


class ScheduledDenoiser(Denoiser):
    """A network `net(x_t, t, labels)` with the table of sigmas (T,) that its times refer to, by default the linear one of a thousand.

    The null condition is the network's own `null`.
    """

    def __init__(self, net: nn.Module, sigmas: Tensor | None = None, space: Space = PIXELS) -> None:
        super().__init__()
        self.net, self.space = net, space
        self.null = getattr(net, "null", None)
        self.register_buffer("sigmas", sigma_of(linear_alpha_bar()) if sigmas is None else sigmas)

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


class Wrapped(Denoiser):
    """A denoiser around another one, of the same chain and space."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    @property
    def sigmas(self) -> Tensor:  # type: ignore[override]
        return self.denoiser.sigmas

    @property
    def space(self) -> Space:  # type: ignore[override]
        return self.denoiser.space

    @property
    def null(self) -> int | None:  # type: ignore[override]
        return self.denoiser.null


class Held(Wrapped):
    """A denoiser that is asked at the nearest level of its chain where the one wanted lies outside, as a learned level may."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        x0: Tensor = self.denoiser(x, sigma.clamp(self.sigmas[0], self.sigmas[-1]), labels)
        return x0


class ClassifierFree(Wrapped):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, eq. 6): (1 + w) D(x, c) - w D(x), one call of doubled batch.

    At w = 0 it is the conditional denoiser at its own cost. ValueError for guidance of a denoiser that has no null condition.
    """

    def __init__(self, denoiser: Denoiser, weight: float) -> None:
        super().__init__(denoiser)
        if denoiser.null is None and weight:
            raise ValueError("guidance needs a network with a null condition, and this one has none")
        self.weight = weight

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None, "guidance needs labels"
        if self.weight == 0:
            return self.denoiser(x, sigma, labels)
        assert self.null is not None
        both = torch.cat([labels, torch.full_like(labels, self.null)])
        conditional, free = self.denoiser(x.repeat(2, 1, 1, 1), sigma.repeat(2), both).chunk(2)
        return (1 + self.weight) * conditional - self.weight * free
