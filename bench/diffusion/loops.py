"""The common sampling loops. They draw all randomness from the request and hold no state but x."""

import itertools
from collections.abc import Callable

from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.batch import everywhere
from bench.diffusion.gaussian import ddim_mean, posterior_mean

Variance = Callable[[float, float], float]
"""(high, low) -> variance of the noise added on the way from sigma `high` to sigma `low`."""
LevelNoise = Callable[[float], Tensor]
"""sigma of the level arrived at -> noise (B, C, H, W) of mean 0 and variance 1."""
Mean = Callable[[Tensor, Tensor, float, float], Tensor]
"""(x at level `high`, x0, high, low) -> mean (B, C, H, W) of x at level `low`."""


def start(draws: Draws, shape: tuple[int, int, int], sigma: Tensor) -> Tensor:
    """Noise (B, *shape) as the chain begins: a unit normal of the variance-preserving coordinates, times sqrt(1 + sigma^2)."""
    return raised(draws.normal(*shape), sigma)


def raised(noise: Tensor, sigma: Tensor) -> Tensor:
    """Unit noise (B, C, H, W) as the chain begins at the level sigma ()."""
    return noise * float((1 + sigma**2) ** 0.5)


def estimate(denoiser: Denoiser, x: Tensor, sigma: float, labels: Tensor | None, clip: bool) -> Tensor:
    """x0 (B, C, H, W) at one noise level for the whole batch, clipped to the pixel range [-1, 1] where asked; labels (B,) or None."""
    x0 = denoiser(x, everywhere(sigma, x), labels)
    return x0.clamp(-1, 1) if clip else x0


def ancestral(denoiser: Denoiser, x: Tensor, sigmas: Tensor, labels: Tensor | None, draws: Draws, variance: Variance, clip: bool) -> Tensor:
    """DDPM's reverse chain (arXiv 2006.11239, algorithm 2) over descending sigmas (S + 1,) that end in 0; no noise on the last step."""
    return reverse_chain(denoiser, x, sigmas, labels, lambda _low: draws.normal(*x.shape[1:]), variance, clip)


def reverse_chain(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    labels: Tensor | None,
    noise: LevelNoise,
    variance: Variance,
    clip: bool,
    mean: Mean = posterior_mean,
) -> Tensor:
    """`ancestral` with noise of any distribution, about any mean."""
    for high, low in itertools.pairwise(sigmas.tolist()):
        x = mean(x, estimate(denoiser, x, high, labels, clip), high, low)
        if low > 0:
            x = x + variance(high, low) ** 0.5 * noise(low)
    return x


def ddim(denoiser: Denoiser, x: Tensor, sigmas: Tensor, labels: Tensor, draws: Draws, eta: float = 0.0, clip: bool = False) -> Tensor:
    """DDIM (arXiv 2010.02502, eq. 12) over descending sigmas (S + 1,) that end in 0; deterministic at eta = 0."""
    grid = sigmas.tolist()
    for high, low in itertools.pairwise(grid):
        x0 = estimate(denoiser, x, high, labels, clip)
        if eta > 0 and low > 0:
            noise = eta * low * (1 - (low / high) ** 2) ** 0.5 * draws.normal(*x.shape[1:])
            x = ddim_mean(x, x0, high, low, eta) + noise
        else:
            x = ddim_mean(x, x0, high, low, 0.0)
    return x
