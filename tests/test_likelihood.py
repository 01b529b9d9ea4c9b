"""The variational bound on Gaussian data, where every term has a closed form."""

import itertools
import math

import pytest
import torch

from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.likelihood import bits_per_dim, discretised_gaussian, gaussian_bound, prior_divergence
from bench.diffusion.noise import SeededDraws
from bench.diffusion.oracle import GaussianDenoiser
from bench.diffusion.schedules import linear_alpha_bar, sigma_of, sigmas_at, uniform_times

VARIANCE = 0.04  # of data in [-1, 1]: the grey levels' bins are fine against it, and clipping is rare


def quantised_normal(count: int) -> torch.Tensor:
    x = VARIANCE**0.5 * SeededDraws(torch.arange(count)).normal(1, 4, 4).double()
    return ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def entropy_bits() -> float:
    """Bits per pixel of the quantised normal."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_p = discretised_gaussian(levels, torch.zeros_like(levels), VARIANCE**0.5)
    return float(-(log_p.exp() * log_p).sum() / math.log(2))


@torch.no_grad()
def bound(steps: int, variance) -> float:  # type: ignore[no-untyped-def]
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE)).double()
    x = quantised_normal(400)
    sigmas = sigmas_at(uniform_times(steps), sigma_of(linear_alpha_bar()))
    nats = gaussian_bound(model, x, sigmas, torch.zeros(400), SeededDraws(torch.arange(400)), variance, clip=False)
    return float(bits_per_dim(nats, (1, 4, 4)).mean())


def expected_bits(steps: int, variance) -> float:  # type: ignore[no-untyped-def]
    """The bound per pixel in closed form: the exact denoiser errs by v s^2 / (v + s^2) at noise s; fine bins in the decoder."""
    grid = sigmas_at(uniform_times(steps), sigma_of(linear_alpha_bar())).tolist()
    noise = grid[0] ** 2 / (1 + grid[0] ** 2)
    nats = 0.5 * ((1 - noise) * VARIANCE + noise - 1 - math.log(noise))
    for high, low in itertools.pairwise(grid):
        error = VARIANCE * high**2 / (VARIANCE + high**2)
        if low > 0:
            model, exact = variance(high, low), posterior_variance(high, low)
            gap = (1 - (low / high) ** 2) ** 2 * error
            nats += 0.5 * (math.log(model / exact) + exact / model - 1 + gap / model)
        else:
            last = forward_variance(high, 0.0)
            nats += 0.5 * math.log(2 * math.pi * last) + error / last / 2 - math.log(2 / 255)
    return nats / math.log(2)


@pytest.mark.parametrize("variance", [posterior_variance, forward_variance])
@pytest.mark.parametrize("steps", [50, 1000])
def test_bound_equals_its_closed_form_and_lies_above_the_entropy(steps: int, variance) -> None:  # type: ignore[no-untyped-def]
    measured = bound(steps, variance)
    assert measured == pytest.approx(expected_bits(steps, variance), rel=0.02)
    assert measured > entropy_bits()


def test_small_variance_term_is_the_difference_of_signal_to_noise() -> None:
    """KL = (1/low^2 - 1/high^2) / 2 * |x0 - guess|^2, so a denoiser that returns 0 has a bound in closed form."""
    zero = GaussianDenoiser(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)).double()
    x0 = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    sigmas = torch.tensor([3.0, 1.0, 0.2, 0.0], dtype=torch.float64)
    nats = gaussian_bound(zero, x0, sigmas, torch.zeros(1), SeededDraws(torch.zeros(1, dtype=torch.long)), posterior_variance, False)
    middle = 0.5 * (1 / 0.2**2 - 1 / 3.0**2) * 4 * 0.25
    first = discretised_gaussian(x0, torch.zeros_like(x0), forward_variance(0.2, 0.0) ** 0.5)
    assert float(nats) == pytest.approx(float(prior_divergence(x0, 3.0)) + middle - float(first.sum()), rel=1e-9)


def test_prior_term_vanishes_at_high_noise_and_counts_at_low() -> None:
    x0 = torch.full((1, 1, 2, 2), 0.5)
    assert float(prior_divergence(x0, 1e4)) < 1e-6 < 0.1 < float(prior_divergence(x0, 1.0))


def test_discretised_normal_sums_to_one() -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, sd in ((0.0, 0.3), (0.99, 0.05), (-1.0, 0.01)):
        total = discretised_gaussian(levels, torch.full_like(levels, mean), sd).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-7)


def test_eight_bits_for_a_uniform_model() -> None:
    nats = torch.full((3,), 64 * math.log(256))
    assert bits_per_dim(nats, (1, 8, 8)).tolist() == pytest.approx([8.0] * 3, abs=1e-6)
