"""Statistics of a trained denoiser at every level of its chain, gathered after training by evaluations alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.contract import Denoiser, Kit
from bench.data.images import to_model
from bench.diffusion.gaussian import forward_variance
from bench.diffusion.likelihood import discretised_gaussian
from bench.diffusion.solvers.analytic import bounded_spread, noise_power
from bench.training.train import noise_like

FEWEST = 10  # images at each level, whatever the share (Analytic-DPM, table 5: as good as 50,000)

Statistic = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x0, x, guess (B, C, H, W), sigma (B, 1, 1, 1)) -> S numbers for each image, (B, S) float64."""


@torch.no_grad()
def by_level(denoiser: Denoiser, sigmas: Tensor, statistic: Statistic, kit: Kit, share: float, what: str) -> Tensor:
    """(T, M, S) float64: the statistic at the levels `sigmas` (T,), M >= 10, by `share` of the training budget in evaluations.

    M / 2 training images, each with a noise n and with -n, so that what is odd in n cancels; the same ones at every level, so that most of
    the sampling error cancels in the differences between levels, which choose a path.
    """
    pairs = max(FEWEST // 2, round(share * kit.budget.train_images / len(sigmas) / 2))
    generator = torch.Generator(kit.device).manual_seed(kit.seed)
    index = torch.randint(len(kit.images), (pairs,), generator=generator, device=kit.device).repeat(2)
    x0, labels, count = to_model(kit.images[index]), kit.labels[index], 2 * pairs
    half, found = noise_like(x0[:pairs], generator), []
    noise = torch.cat([half, -half])
    for levels in sigmas.split(max(1, 4 * kit.budget.train_batch // count)):
        n, sigma = len(levels), levels.repeat_interleave(count)
        clean, spread = x0.repeat(n, 1, 1, 1), sigma.to(x0.dtype)[:, None, None, None]
        x = clean + spread * noise.repeat(n, 1, 1, 1)
        found.append(statistic(clean, x, denoiser(x, sigma, labels.repeat(n)), spread).unflatten(0, (n, count)))
        kit.progress(what, sum(map(len, found)) * count, len(sigmas) * count)
    return torch.cat(found)


def noise_squares(x0: Tensor, x: Tensor, guess: Tensor, sigma: Tensor) -> Tensor:
    """Mean squares of the noise predicted and of that drawn."""
    return torch.stack([((x - towards) / sigma).double().square().flatten(1).mean(1) for towards in (guess, x0)], dim=1)


def bound_terms(x0: Tensor, _x: Tensor, guess: Tensor, sigma: Tensor) -> Tensor:
    """Mean squared error of the guess, clipped to [-1, 1], and the decoder's -log p(x0 | x) in nats a pixel, its variance beta."""
    level, clipped = sigma.double(), guess.clamp(-1, 1)
    decoder = -discretised_gaussian(x0, clipped, forward_variance(level, torch.zeros_like(level)).sqrt())
    return torch.stack([(x0 - clipped).double().square().flatten(1).mean(1), decoder.flatten(1).mean(1)], dim=1)


def spread_by_level(denoiser: Denoiser, kit: Kit, share: float) -> tuple[Tensor, Tensor]:
    """(sigmas, v) of `Analysed`, both (T,), at the levels of the denoiser's chain."""
    sigmas = denoiser.sigmas
    squares = by_level(denoiser, sigmas, noise_squares, kit, share, "mean squares of the noise")
    return sigmas, bounded_spread(sigmas, noise_power(*squares.unbind(-1)))


def bound_by_level(denoiser: Denoiser, kit: Kit, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """(sigmas, errors, decoder terms) of `step_costs`, each (T,), at the levels of the denoiser's chain."""
    sigmas = denoiser.sigmas
    error, decoder = by_level(denoiser, sigmas, bound_terms, kit, share, "terms of the bound").mean(1).unbind(-1)
    return sigmas, error, decoder
