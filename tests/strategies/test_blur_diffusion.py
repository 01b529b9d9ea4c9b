"""Blur diffusion: transform and blur against scipy, schedule against its chain, sampler against DDPM's and Gaussian closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bench.diffusion.denoisers.parametrise import VDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import at, leading_times
from bench.diffusion.likelihood import discretised_gaussian, gaussian_bound
from bench.diffusion.loops import ancestral, start
from bench.diffusion.schedules import T, linear_alpha_bar, sigma_of
from bench.nets.unet import UNet
from strategies.eds.pyramidal.blur_diffusion import BlurDiffusion, BlurModel, SpectralDenoiser, frequency, velocity_loss
from tests.impulses import Impulses
from tests.oracles import lively_unet, request

SHAPE = (1, 8, 8)
LABELS = torch.tensor([1, 5, 9])


def model(blur: float, unet: UNet | None = None) -> BlurModel:
    """A random but lively model in float64."""
    net = SpectralDenoiser(lively_unet() if unet is None else unet, SHAPE, blur, 0.4).double()
    net.rows, net.columns = frequency.cosine_basis(8), frequency.cosine_basis(8)  # not rounded to float32
    return BlurModel(net).eval()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_transform_equals_scipy_and_inverts() -> None:
    x, rows, columns = normal(2, 3, 8, 12), frequency.cosine_basis(8), frequency.cosine_basis(12)
    u = frequency.to_spectrum(x, rows, columns)
    assert np.allclose(u.numpy(), dctn(x.numpy(), axes=(2, 3), norm="ortho"), atol=1e-12)
    assert torch.allclose(frequency.to_pixels(u, rows, columns), x, atol=1e-12)


@pytest.mark.parametrize("sd", [0.4, 0.7])
def test_response_is_that_of_a_blur_mirrored_at_the_edges(sd: float) -> None:
    x, rows, columns = normal(1, 1, 8, 16), frequency.cosine_basis(8), frequency.cosine_basis(16)
    response = frequency.blur_response(8, 16, sd)
    ours = frequency.to_pixels(response * frequency.to_spectrum(x, rows, columns), rows, columns)
    assert float(response.min()) > frequency.FLOOR
    assert np.allclose(ours[0, 0].numpy(), gaussian_filter(x[0, 0].numpy(), sd, mode="reflect", radius=(7, 15)), atol=1e-12)
    assert float(frequency.blur_response(8, 8, 3.0).min()) == frequency.FLOOR


@pytest.mark.parametrize("blur", [0.0, 0.14])
def test_schedule_equals_the_product_of_its_steps(blur: float) -> None:
    betas = np.linspace(1e-4, 0.02, T)
    response = frequency.blur_response(8, 8, 0.4).numpy()
    keep = np.ones((8, 8))
    ours = model(blur).net.log_keep(torch.arange(T)).exp()
    for i in range(1, T + 1):
        keep = keep * (1 - betas[i - 1]) * response ** (2 * blur * (i / T) ** 4)
        if i in (1, 2, 500, T):
            assert np.allclose(ours[i - 1].numpy(), keep, rtol=1e-9, atol=0)
    assert (keep[7, 7] < 1e-3 * keep[0, 0]) == (blur > 0)  # fine detail dies first


def test_posterior_equals_enumeration() -> None:
    """Bayes' rule on a fine grid, in one dimension: q(low | high, x0) ~ q(low | x0) q(high | low)."""
    x0, high_value = 0.7, -0.4
    grid = np.linspace(-8, 8, 400_001)
    for keep_low, keep_high in ((0.9, 0.5), (0.3, 0.01), (1 - 1e-3, 0.97)):
        step = keep_high / keep_low
        log_p = -((grid - keep_low**0.5 * x0) ** 2) / (2 * (1 - keep_low)) - (high_value - step**0.5 * grid) ** 2 / (2 * (1 - step))
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
        mean = float((p * grid).sum())
        high, low = (torch.tensor(math.log(keep), dtype=torch.float64) for keep in (keep_high, keep_low))
        c, d, variance = frequency.posterior(high, low)
        assert float(c * high_value + d * x0) == pytest.approx(mean, abs=1e-6)
        assert float(variance) == pytest.approx(float((p * (grid - mean) ** 2).sum()), rel=1e-5)


class Turned:
    """Another's normal draws as spectra: the same noise, seen in the cosines."""

    def __init__(self, seeds: Tensor) -> None:
        self.draws, self.basis = SeededDraws(seeds), frequency.cosine_basis(8)

    def normal(self, *shape: int) -> Tensor:
        return frequency.to_spectrum(self.draws.normal(*shape).double(), self.basis, self.basis)


class Double(SeededDraws):
    def normal(self, *shape: int) -> Tensor:
        return super().normal(*shape).double()


@pytest.mark.parametrize("steps", [5, 50])
@torch.no_grad()
def test_without_blur_sampler_and_bound_are_ddpms(steps: int) -> None:
    unet, seeds, times = lively_unet().double(), torch.arange(3), leading_times(steps, 1000)
    ours, theirs, sigmas = model(0.0, unet), VDenoiser(unet), at(times, sigma_of(linear_alpha_bar()))
    estimate, log_keep = ours.estimate(times, LABELS), ours.net.log_keep(times)
    turned, plain = Turned(seeds), Double(seeds)
    x = frequency.ancestral(estimate, turned.normal(*SHAPE), log_keep, turned)
    reference = ancestral(theirs, start(plain, SHAPE, sigmas[0]), sigmas, LABELS, plain, posterior_variance, clip=True)
    assert torch.allclose(x, reference, atol=1e-6, rtol=0) and float(x.std()) > 0.1
    x0 = ((normal(3, *SHAPE) / 3 + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
    bound = frequency.bound(estimate, x0, ours.net.spectrum(x0), log_keep, Turned(seeds))
    expected = gaussian_bound(theirs, x0, sigmas, LABELS, Double(seeds), posterior_variance, clip=True)
    assert torch.allclose(bound, expected, rtol=1e-6)


@torch.no_grad()
def test_with_blur_they_are_not() -> None:
    times = leading_times(5, 1000)
    runs = []
    for blur in (0.0, 0.14):
        ours, draws = model(blur), Turned(torch.arange(3))
        runs.append(frequency.ancestral(ours.estimate(times, LABELS), draws.normal(*SHAPE), ours.net.log_keep(times), draws))
    assert float((runs[0] - runs[1]).abs().max()) > 0.01


def ended_variance(blur: float, steps: int, data: Tensor) -> Tensor:
    """Exact variance (H, W) of each frequency of the chain's end, for data N(0, `data`) in the cosines and their exact estimate."""
    log_keep = model(blur).net.log_keep(leading_times(steps, 1000))
    signal, noise = frequency.coefficients(log_keep)

    def estimate(u: Tensor, step: int) -> tuple[Tensor, Tensor]:
        guess = signal[step] * data / (signal[step].square() * data + noise[step].square()) * u
        return guess, guess

    draws = Impulses(steps)
    return draws.variance(frequency.ancestral(estimate, draws.normal(*SHAPE), log_keep, draws))[0]


def followed_variance(keep: list[float], data: float) -> float:
    """The same for one frequency with Bbar at descending times, in Ho et al.'s eq. 7 and scalars."""
    variance = 1.0
    for step, high in enumerate(keep):
        gain = high**0.5 * data / (high * data + 1 - high)
        if step + 1 == len(keep):
            return gain**2 * variance
        low = keep[step + 1]
        ratio = high / low
        x0_part, x_part = low**0.5 * (1 - ratio) / (1 - high), ratio**0.5 * (1 - low) / (1 - high)
        variance = (x0_part * gain + x_part) ** 2 * variance + (1 - low) / (1 - high) * (1 - ratio)
    raise AssertionError


def test_gaussian_data_frequency_by_frequency() -> None:
    data = 0.5 / (1 + torch.arange(8.0)[:, None] + torch.arange(8.0)).double()
    for steps in (10, 50):
        ended, keep = ended_variance(0.14, steps, data), model(0.14).net.log_keep(leading_times(steps, 1000)).exp()
        for i, j in itertools.product((0, 3, 7), (0, 7)):
            assert float(ended[i, j]) == pytest.approx(followed_variance(keep[:, i, j].tolist(), float(data[i, j])), rel=1e-9)
    errors = [(ended_variance(0.14, steps, data) / data - 1).abs() for steps in (10, 100, 1000)]
    assert bool((errors[2] < errors[1]).all()) and bool((errors[1] < errors[0]).all())
    assert float(errors[2].max()) < 0.15


@pytest.mark.parametrize(("steps", "published"), [(1000, 0.2461), (50, 0.1972), (10, 0.1111)])
def test_without_blur_gaussian_data_ends_where_ddpm_does(steps: int, published: float) -> None:
    ended = ended_variance(0.0, steps, torch.full((8, 8), 0.25, dtype=torch.float64))
    assert torch.allclose(ended, torch.full_like(ended, published), atol=6e-3)


def test_bound_of_who_always_guesses_grey_is_known() -> None:
    """The divergences add up to the gain of signal-to-noise times the energy of each frequency."""
    net, x0, keep = (
        model(0.14).net,
        torch.full((2, *SHAPE), 0.4, dtype=torch.float64),
        model(0.14).net.log_keep(leading_times(20, 1000)).exp(),
    )
    x0[:, :, ::2, 1::3] = -0.6
    zero = torch.zeros_like(x0)
    bound = frequency.bound(lambda _u, _step: (zero, zero), x0, net.spectrum(x0), keep.log(), Turned(torch.arange(2)))
    energy, snr = net.spectrum(x0)[0, 0].square(), keep / (1 - keep)
    prior = 0.5 * (keep[0] * energy - keep[0] - torch.log1p(-keep[0])).sum()
    divergences = 0.5 * ((snr[-1] - snr[0]) * energy).sum()
    decoder = discretised_gaussian(x0[0], zero[0], float(1 - keep[-1, 0, 0]) ** 0.5).sum()
    assert bound.tolist() == pytest.approx([float(prior + divergences - decoder)] * 2, rel=1e-9)


class Knowing(SpectralDenoiser):
    """Knows that x0 is 0.5 all over, and so the velocity."""

    def velocity(self, u: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        signal, noise = (part[:, None] for part in frequency.coefficients(self.log_keep(t)))
        u0 = self.spectrum(torch.full_like(u, 0.5)).double()
        return (signal * (u.double() - signal * u0) / noise - noise * u0).float()


def test_loss_vanishes_for_who_knows_the_velocity_and_for_no_other() -> None:
    images, labels = torch.full((32, *SHAPE), 0.5), torch.zeros(32, dtype=torch.long)
    losses = [
        float(velocity_loss(kind(lively_unet(), SHAPE, 0.14, 0.4))(images, labels, torch.Generator().manual_seed(0)).detach())
        for kind in (Knowing, SpectralDenoiser)
    ]
    assert losses[0] < 1e-8 < 0.05 < losses[1]


@torch.no_grad()
def test_knowing_the_velocity_is_knowing_the_image_though_it_is_all_but_dead() -> None:
    net, t = Knowing(lively_unet(), SHAPE, 0.14, 0.4), torch.tensor([0, 500, T - 1])
    signal, noise = (part[:, None].float() for part in frequency.coefficients(net.log_keep(t)))
    u = signal * net.spectrum(torch.full((3, *SHAPE), 0.5)) + noise * normal(3, *SHAPE).float()
    pixels, spectrum = net(u, t)
    assert torch.allclose(pixels, torch.full_like(pixels, 0.5), atol=1e-4) and torch.equal(spectrum, net.spectrum(pixels))


@torch.no_grad()
def test_labels_count() -> None:
    strategy, ours = BlurDiffusion(steps=4), BlurModel(SpectralDenoiser(lively_unet(), SHAPE, 0.14, 0.4))
    assert not torch.equal(strategy.sample(ours, request(2, labels=[0, 1])), strategy.sample(ours, request(2, labels=[3, 4])))


@pytest.mark.parametrize("fields", [{"blur": -0.1}, {"kernel_sd": 0.0}, {"steps": 0}, {"steps": 1001}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        BlurDiffusion(**fields)  # type: ignore[arg-type]
