"""The variational bound of a Gaussian chain on the K-step schedule that a sampler actually uses.

Ho et al. 2020 (arXiv 2006.11239, eq. 5 and 13): prior term + K - 1 divergences + a discretised Gaussian decoder, in bits per dimension
of images with 256 grey levels. One draw of noise per term and image: unbiased for the bound.
"""

import itertools
import math

import torch
from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.gaussian import forward_variance, posterior_mean, posterior_variance
from bench.diffusion.loops import Variance, estimate

HALF_BIN = 1 / 255  # grey levels stand 2/255 apart in [-1, 1]
TINY = 1e-12


def gaussian_bound(denoiser: Denoiser, x0: Tensor, sigmas: Tensor, labels: Tensor, draws: Draws, variance: Variance, clip: bool) -> Tensor:
    """Upper bound (B,) in nats per image for x0 (B, C, H, W) in [-1, 1] and the chain over descending sigmas (K + 1,) ending in 0."""
    grid = sigmas.tolist()
    nats = prior_divergence(x0, grid[0])
    for high, low in itertools.pairwise(grid):
        x = x0 + high * draws.normal(*x0.shape[1:])
        guess = estimate(denoiser, x, high, labels, clip)
        mean = posterior_mean(x, guess, high, low)
        if low > 0:
            model, exact = variance(high, low), posterior_variance(high, low)
            gap = (mean - posterior_mean(x, x0, high, low)).square()
            term = 0.5 * (math.log(model / exact) + exact / model - 1 + gap / model)
        else:
            term = -discretised_gaussian(x0, mean, forward_variance(high, 0.0) ** 0.5)
        nats = nats + term.double().flatten(1).sum(1)
    return nats


def prior_divergence(x0: Tensor, sigma: float) -> Tensor:
    """KL (B,) in nats from q(x_T | x0) to the unit normal, in variance-preserving coordinates."""
    signal, noise = 1 / (1 + sigma**2), sigma**2 / (1 + sigma**2)
    per_pixel = 0.5 * (signal * x0.double().square() + noise - 1 - math.log(noise))
    return per_pixel.flatten(1).sum(1)


def discretised_gaussian(x: Tensor, mean: Tensor, sd: float | Tensor) -> Tensor:
    """Log-probability in nats of each grey level under a normal integrated over its bin, the outermost bins open (eq. 13)."""
    x, mean = x.double(), mean.double()
    above = torch.special.ndtr((x + HALF_BIN - mean) / sd).where(x < 1 - HALF_BIN, torch.ones_like(x))
    below = torch.special.ndtr((x - HALF_BIN - mean) / sd).where(x > -1 + HALF_BIN, torch.zeros_like(x))
    return (above - below).clamp_min(TINY).log()


def bits_per_dim(nats: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Nats per image (B,) as bits per dimension of the uint8 image (C, H, W)."""
    return nats / (math.prod(shape) * math.log(2))
