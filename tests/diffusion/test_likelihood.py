"""The variational bound on Gaussian data, where every term has a closed form."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.grids import leading
from bench.diffusion.likelihood import TERMS, bits_per_dim, discretised_gaussian, gaussian_bound, prior_divergence, systematic
from bench.diffusion.schedules import linear_alpha_bar, sigma_of

VARIANCE = 0.04  # of data in [-1, 1]: the grey levels' bins are fine against it, and clipping is rare


def quantised_normal(count: int) -> torch.Tensor:
    x = VARIANCE**0.5 * SeededDraws(torch.arange(count)).normal(1, 4, 4).double()
    return ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def entropy_bits() -> float:
    """Bits per pixel of the quantised normal."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_p = discretised_gaussian(levels, torch.zeros_like(levels), VARIANCE**0.5)
    return float(-(log_p.exp() * log_p).sum() / math.log(2))


class Counting(GaussianDenoiser):
    """The exact denoiser, counting its calls."""

    calls = 0

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().forward(x, sigma, labels)


def exact() -> Counting:
    return Counting(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE)).double()


def grid(steps: int) -> Tensor:
    return leading(sigma_of(linear_alpha_bar()), steps)


@torch.no_grad()
def bounds(steps: int, variance, terms: int = TERMS, count: int = 400, seed: int = 0) -> Tensor:  # type: ignore[no-untyped-def]
    """Bits per pixel (count,) of the same images, with noise by `seed`."""
    draws = SeededDraws(torch.arange(count) + seed)
    nats = gaussian_bound(exact(), quantised_normal(count), grid(steps), torch.zeros(count), draws, variance, clip=False, terms=terms)
    return bits_per_dim(nats, (1, 4, 4))


def expected_bits(steps: int, variance) -> float:  # type: ignore[no-untyped-def]
    """The bound per pixel in closed form: the exact denoiser errs by v s^2 / (v + s^2) at noise s; fine bins in the decoder."""
    levels = grid(steps).tolist()
    noise = levels[0] ** 2 / (1 + levels[0] ** 2)
    nats = 0.5 * ((1 - noise) * VARIANCE + noise - 1 - math.log(noise))
    for high, low in itertools.pairwise(levels):
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
@pytest.mark.parametrize(("steps", "terms"), [(50, TERMS), (1000, TERMS), (1000, 1000)])
def test_bound_equals_its_closed_form_and_lies_above_the_entropy(steps: int, terms: int, variance) -> None:  # type: ignore[no-untyped-def]
    measured = float(bounds(steps, variance, terms).mean())
    assert measured == pytest.approx(expected_bits(steps, variance), rel=0.02)
    assert measured > entropy_bits()


@pytest.mark.parametrize("variance", [posterior_variance, forward_variance])
@pytest.mark.parametrize("terms", [16, TERMS])
def test_sampled_terms_are_unbiased_for_the_full_sum(terms: int, variance) -> None:  # type: ignore[no-untyped-def]
    """Same images, other noise."""
    gap = bounds(1000, variance, terms, seed=10_000) - bounds(1000, variance, 1000)
    standard_error = float(gap.std()) / len(gap) ** 0.5
    assert 0 < abs(float(gap.mean())) < 3 * standard_error < 0.15


def test_sampled_terms_have_no_more_variance_than_the_full_sum() -> None:
    """The large terms are drawn more than once, the small ones seldom; equal shares would have nearly ten times the deviation."""
    sampled, full = bounds(1000, posterior_variance, seed=10_000), bounds(1000, posterior_variance, 1000)
    assert float(sampled.std()) < 1.1 * float(full.std())


def test_short_chains_are_summed_in_full_and_long_ones_sampled() -> None:
    assert torch.equal(bounds(TERMS + 1, posterior_variance), bounds(TERMS + 1, posterior_variance, terms=1000))
    assert not torch.equal(bounds(TERMS + 2, posterior_variance), bounds(TERMS + 2, posterior_variance, terms=1000))
    model, x0 = exact(), quantised_normal(2)
    for steps, calls in ((1, 1), (2, 2), (50, 50), (1000, TERMS + 1)):
        model.calls = 0
        gaussian_bound(model, x0, grid(steps), torch.zeros(2), SeededDraws(torch.arange(2)), posterior_variance, clip=False)
        assert model.calls == calls


def test_sampled_bound_of_an_image_does_not_depend_on_its_batch() -> None:
    assert bounds(1000, posterior_variance, count=3).tolist() == pytest.approx(bounds(1000, posterior_variance, count=400)[:3].tolist())


def test_systematic_sampling_is_unbiased_over_its_offsets() -> None:
    share = torch.tensor([0.5, 0.01, 0.2, 0.04, 0.15, 0.1], dtype=torch.float64)
    values = torch.tensor([3.0, -1.0, 4.0, 1.0, -5.0, 9.0], dtype=torch.float64)
    offsets = (torch.arange(100_000) + 0.5) / 100_000
    picks, weights = systematic(share, 4, offsets)
    assert picks.shape == weights.shape == (4, 100_000)
    assert float((weights * values[picks]).sum(0).mean()) == pytest.approx(float(values.sum()), abs=0.01)
    counts = torch.stack([(picks == k).sum(0) for k in range(len(share))])
    assert bool(((counts - 4 * share[:, None]).abs() < 1).all())  # low discrepancy: never a whole index off


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
