"""Gamma noise: moments, law against a step-by-step simulation, the Gaussian limit, and controls that differ in one thing each."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from bench.cards import AssetName
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import forward_variance
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.testing.subject import tiny_assets
from bench.training.noise_prediction import eps_loss, gaussian_noise, unweighted
from bench.training.recipes.denoiser import build_denoiser
from strategies.eds.representation.ddim import DDIM
from strategies.eds.state_space.ddpm import DDPM
from strategies.eps.noise.ddgm import DDGM, Noise, Update
from strategies.eps.noise.ddgm.gamma import beta_as_deviation, gamma_shape, standard_gamma
from strategies.eps.noise.ddgm.training import gamma_noising
from tests.oracles import denoiser, request

BETAS = np.linspace(1e-4, 0.02, 1000)
ABAR = np.cumprod(1 - BETAS)


def drawn(k: float, images: int = 2000, pixels: int = 256) -> np.ndarray:
    """Standardised Gamma noise of shape k, flat."""
    seeds = torch.arange(images) + 10_000
    return standard_gamma(torch.tensor(k, dtype=torch.float64), SeededDraws(seeds), pixels).flatten().numpy()


@pytest.mark.parametrize("k", [0.3, 0.9, 1.0, 3.0, 100.0, 2.4e4])
def test_noise_is_gamma_distributed(k: float) -> None:
    """Kolmogorov and Smirnov against scipy's Gamma, and the first three moments."""
    n = drawn(k)
    assert stats.kstest(n * math.sqrt(k) + k, stats.gamma(k).cdf).pvalue > 1e-3
    skew = 2 / math.sqrt(k)
    assert n.mean() == pytest.approx(0, abs=0.006)
    assert n.var() == pytest.approx(1, abs=0.006 * (1 + 3 * skew))
    assert stats.skew(n) == pytest.approx(skew, abs=0.015 * (1 + 3 * skew))


def test_huge_shapes_lose_no_digits() -> None:
    """At theta_0 = 1e-3 and T the shape is 2.5e10; in float32 G itself would leave some 500 different values."""
    k = float(gamma_shape(sigma_of(linear_alpha_bar()), 1e-3)[-1])
    n = drawn(k)
    assert k == pytest.approx(2.5e10, rel=0.05)
    assert len(np.unique(n.astype(np.float32))) > 0.9 * len(n)
    assert stats.kstest(n, "norm").pvalue > 1e-3


def test_shapes_accumulate_over_the_chain() -> None:
    """The closed form equals the sum of k_t = beta_t / (abar_t theta_0^2), and the variance is 1 - abar."""
    theta_0 = 0.01
    ours = gamma_shape(sigma_of(linear_alpha_bar()), theta_0).numpy()
    assert np.allclose(ours, np.cumsum(BETAS / (ABAR * theta_0**2)), rtol=1e-9)
    assert np.allclose(ours * (np.sqrt(ABAR) * theta_0) ** 2, 1 - ABAR, rtol=1e-9)


@pytest.mark.parametrize("theta_0", [1e-3, 1e-2, 0.02])
def test_one_shot_equals_step_by_step(theta_0: float) -> None:
    """Five steps of the chain x_t = sqrt(1 - beta_t) x_{t-1} + g_t - k_t theta_t from x_0 = 0, by numpy's own Gamma."""
    rng, count, x = np.random.default_rng(0), 200_000, np.zeros(200_000)
    for t in range(5):
        k, theta = BETAS[t] / (ABAR[t] * theta_0**2), math.sqrt(ABAR[t]) * theta_0
        x = math.sqrt(1 - BETAS[t]) * x + rng.gamma(k, theta, count) - k * theta
    sigma = sigma_of(linear_alpha_bar())[4]
    ours = math.sqrt(1 - ABAR[4]) * drawn(float(gamma_shape(sigma, theta_0)), images=1000, pixels=200)
    assert stats.ks_2samp(x, ours).pvalue > 1e-3
    assert x.var() == pytest.approx(1 - ABAR[4], rel=0.03) and ours.var() == pytest.approx(1 - ABAR[4], rel=0.03)


def test_training_noise_has_each_images_own_level() -> None:
    """A network that predicts nothing has the loss E_t E|n|, and E|G - k| = 2 k^k e^-k / Gamma(k)."""
    net = build_denoiser(tiny_assets().kit_with(()))
    images, labels = torch.zeros(4096, 1, 8, 8), torch.zeros(4096, dtype=torch.long)

    def value(noising) -> float:  # type: ignore[no-untyped-def]
        with torch.no_grad():
            loss = eps_loss(net, unweighted, noising=noising, penalty=torch.abs)
            return float(loss(images, labels, torch.Generator().manual_seed(1)))

    k = ((1 - ABAR) / ABAR) / 1.5**2
    expected = np.exp(math.log(2) + k * np.log(k) - k - special.gammaln(k) - np.log(k) / 2).mean()
    assert value(gamma_noising(1.5)) == pytest.approx(expected, abs=0.006) and expected < 0.7
    assert value(gaussian_noise) == pytest.approx(math.sqrt(2 / math.pi), abs=0.004)


def test_vanishing_scale_is_the_gaussian_model() -> None:
    """theta_0 -> 0: the first proposal is accepted as it stands, in training and in sampling."""
    normal = SeededDraws(torch.arange(50)).normal(64)
    n = standard_gamma(torch.tensor(1e16, dtype=torch.float64), SeededDraws(torch.arange(50)), 64)
    assert torch.allclose(n.float(), normal, atol=1e-6)
    model = denoiser(torch.float32)
    pair = [DDGM(noise=noise, theta_0=1e-8, steps=5).sample(model, request(6)).int() for noise in Noise]
    assert int((pair[0] - pair[1]).abs().max()) <= 1
    assert not torch.equal(pair[0], DDGM(theta_0=10.0, steps=5).sample(model, request(6)).int())


@torch.no_grad()
def test_controls_differ_from_the_baselines_in_the_loss_alone() -> None:
    """On one network Gaussian noise with DDIM is DDIM, and with the posterior's variance DDPM, bit for bit."""
    model = denoiser(torch.float32)
    implicit = DDGM(noise=Noise.GAUSSIAN, update=Update.DDIM, steps=7).sample(model, request(4))
    ancestral = DDGM(noise=Noise.GAUSSIAN, update=Update.POSTERIOR, steps=7).sample(model, request(4))
    assert torch.equal(implicit, DDIM(steps=7).sample(model, request(4)))
    assert torch.equal(ancestral, DDPM(steps=7).sample(model, request(4)))
    assert not torch.equal(ancestral, DDGM(noise=Noise.GAUSSIAN, update=Update.BETA, steps=7).sample(model, request(4)))


def test_beta_is_a_standard_deviation() -> None:
    """Between neighbouring times the added noise has standard deviation beta_t in the paper's variables, not sqrt(beta_t)."""
    sigmas = sigma_of(linear_alpha_bar())
    for t in (1, 10, 500, 999):
        high, low = float(sigmas[t]), float(sigmas[t - 1])
        assert math.sqrt(beta_as_deviation(high, low) * ABAR[t - 1]) == pytest.approx(BETAS[t], rel=1e-6)
        assert math.sqrt(forward_variance(high, low) * ABAR[t - 1]) == pytest.approx(math.sqrt(BETAS[t]), rel=1e-6)


@pytest.mark.parametrize("update", [Update.BETA, Update.POSTERIOR])
@torch.no_grad()
def test_each_update_takes_the_noise_of_the_level_it_arrives_at(update: Update, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gamma noise replaced by a normal that keeps the levels asked for: the images are the Gaussian control's."""
    asked: list[float] = []

    def spy(draws, theta_0, shape, device):  # type: ignore[no-untyped-def]
        def noise(sigma: float) -> Tensor:
            asked.append(sigma)
            return draws.normal(*shape)

        return noise

    monkeypatch.setattr("strategies.eps.noise.ddgm.gamma_noise", spy)
    model = denoiser(torch.float32)
    gamma, gaussian = (DDGM(noise=noise, update=update, steps=4).sample(model, request(4)) for noise in Noise)
    assert torch.equal(gamma, gaussian)
    assert asked == pytest.approx(sigma_of(linear_alpha_bar())[[750, 500, 250, 0]].tolist())


def test_loss_and_noise_reach_the_network() -> None:
    """The L1 loss trains another network than the base's squared error, and Gamma noise yet another; at once deterministic."""
    kit = tiny_assets().kit_with(())
    base = tiny_assets().get(AssetName.DENOISER).module.state_dict()
    fitted = {noise: DDGM(noise=noise, theta_0=1.0).fit(kit).state_dict() for noise in Noise}
    again = DDGM(theta_0=1.0).fit(kit).state_dict()

    def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return all(torch.equal(a[key], b[key]) for key in a)

    assert not same(base, fitted[Noise.GAUSSIAN]) and not same(fitted[Noise.GAMMA], fitted[Noise.GAUSSIAN])
    assert same(again, fitted[Noise.GAMMA])


@pytest.mark.parametrize("fields", [{"theta_0": 0.0}, {"theta_0": -1.0}, {"theta_0": 20.0}, {"steps": 0}, {"steps": -1}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        DDGM(**fields)  # type: ignore[arg-type]
