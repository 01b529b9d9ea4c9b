"""The variational bound of a Gaussian chain on the K-step schedule that a sampler actually uses.

Ho et al. 2020 (arXiv 2006.11239, eq. 5 and 13): prior term + K - 1 divergences + a discretised Gaussian decoder, in bits per dimension
of images with 256 grey levels. One draw of noise per evaluated term and image: unbiased for the bound.
"""

import math

import torch
from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.batch import column
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.loops import Variance

HALF_BIN = 1 / 255  # grey levels stand 2/255 apart in [-1, 1]
TINY = 1e-12
TERMS = 128  # divergences evaluated on a longer chain
SAMPLED = f"one draw of noise a term, {TERMS} systematically sampled terms where there are more"  # for the cards
PIXEL_VARIANCE = 0.25  # in [-1, 1]; any value from 0.04 to 1 samples about as well


def gaussian_bound(
    denoiser: Denoiser, x0: Tensor, sigmas: Tensor, labels: Tensor, draws: Draws, variance: Variance, clip: bool, terms: int = TERMS
) -> Tensor:
    """Upper bound (B,) in nats per image for x0 (B, C, H, W) in [-1, 1] and the chain over descending sigmas (K + 1,) ending in 0.

    A divergence is a constant of the schedule plus a multiple of |x0 - guess|^2. Prior, decoder and constants are summed in full; of the
    K - 1 distances all are, or, where that is more than `terms`, as many as `terms`, weighted so that the sum stays unbiased.
    """
    high, constant, factor = (table.to(x0.device) for table in divergences(sigmas, variance))
    nats = prior_divergence(x0, float(sigmas[0])) + x0[0].numel() * constant.sum()
    for pick, weight in zip(*picked(high, factor, terms, draws), strict=True):
        guess = guessed(denoiser, x0, high[pick], labels, draws, clip)
        nats = nats + weight * factor[pick] * (x0 - guess).double().square().flatten(1).sum(1)
    last = float(sigmas[-2])
    guess = guessed(denoiser, x0, high.new_tensor([last]), labels, draws, clip)
    decoder = variance(last, 0.0) or forward_variance(last, 0.0)  # beta where beta~, which is 0 in the last step
    return nats - discretised_gaussian(x0, guess, decoder**0.5).flatten(1).sum(1)


def divergences(sigmas: Tensor, variance: Variance) -> tuple[Tensor, Tensor, Tensor]:
    """(high, c, f), each (K - 1,) float64: one pixel's divergence in the step down from level `high` is c + f (x0 - guess)^2."""
    high, low = sigmas[:-2].double(), sigmas[1:-1].double()
    model = [variance(*step) for step in zip(high.tolist(), low.tolist(), strict=True)]
    return high, *divergence_terms(high, low, high.new_tensor(model))


def divergence_terms(high: Tensor, low: Tensor, model: Tensor) -> tuple[Tensor, Tensor]:
    """(c, f) of the steps from levels `high` to `low` with the variances `model`, all of them of shapes that broadcast.

    KL(N(m, exact) || N(m', model)) = (log(model / exact) + exact / model - 1 + (m - m')^2 / model) / 2, and the posterior means of x0 and
    of the guess differ by (1 - (low / high)^2) (x0 - guess).
    """
    exact = posterior_variance(high, low)
    return ((model / exact).log() + exact / model - 1) / 2, (1 - (low / high).square()).square() / (2 * model)


def picked(high: Tensor, factor: Tensor, terms: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Which of the K - 1 distances to evaluate, with their weights: both (N, 1), or (N, B) where images have levels of their own.

    At most `terms`: all. More: `systematic` in proportion to f v s^2 / (v + s^2), the expected term at noise s of unstructured pixels with
    variance v. Terms differ a hundredfold along a chain, so that equal shares would have about ten times this one's standard error.
    """
    if len(high) <= terms:
        return torch.arange(len(high), device=high.device)[:, None], torch.ones_like(high)[:, None]
    size = factor * PIXEL_VARIANCE * high.square() / (PIXEL_VARIANCE + high.square())
    return systematic(size / size.sum(), terms, draws.uniform())


def systematic(share: Tensor, count: int, offset: Tensor) -> tuple[Tensor, Tensor]:
    """`count` indices into `share` (K,), positive and of sum 1, at equal distances along its cumulated sum; and weights. Both (count, B).

    With offsets (B,) uniform in [0, 1) the weighted sum over the indices is unbiased for the sum over all K. The low-discrepancy sampler
    of Kingma et al. 2021 (arXiv 2107.00630) along a share other than the uniform, with an offset for each image.
    """
    points = (torch.arange(count, device=share.device)[:, None] + offset.double()) / count
    picks = torch.searchsorted(share.cumsum(0), points, right=True).clamp(max=len(share) - 1)
    return picks, 1 / (count * share[picks])


def guessed(denoiser: Denoiser, x0: Tensor, sigma: Tensor, labels: Tensor, draws: Draws, clip: bool) -> Tensor:
    """The denoiser's estimate of x0 (B, C, H, W) from x0 with noise of levels sigma (B,) or (1,), clipped to [-1, 1] where asked."""
    levels = sigma.expand(len(x0))
    guess = denoiser(x0 + column(levels, x0) * draws.normal(*x0.shape[1:]), levels, labels)
    return guess.clamp(-1, 1) if clip else guess


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
