"""The stochastic Heun sampler against diffusers' schedulers, DDIM and closed forms of Gaussian data."""

import itertools

import pytest
import torch
from diffusers import HeunDiscreteScheduler
from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler
from torch import Tensor

from bench.contract import Denoiser
from bench.diffusion.denoisers.exact import GaussianDenoiser, probability_flow_sd
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import leading, rho_levels, span
from bench.diffusion.loops import ddim
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.diffusion.solvers.churn import Churn, churned
from bench.diffusion.solvers.runge_kutta import EULER, HEUN, Tableau
from tests.impulses import Impulses
from tests.oracles import Recorded, denoiser

SEEDS = torch.arange(3)
LABELS = torch.tensor([1, 5, 9])
STILL = Churn()
VARIANCE = 0.25  # of the Gaussian data N(0, 0.25)


def gaussian() -> GaussianDenoiser:
    return GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE)).double()


def noise(sigma: float) -> Tensor:
    return sigma * SeededDraws(SEEDS).normal(1, 8, 8).double()


@torch.no_grad()
def test_first_order_without_fresh_noise_is_ddim() -> None:
    model, sigmas = denoiser(), leading(sigma_of(linear_alpha_bar()), 10)
    x, draws = noise(float(sigmas[0])), Recorded(SEEDS)
    ours = churned(model, x, sigmas, LABELS, draws, STILL, EULER)
    assert torch.allclose(ours, ddim(model, x, sigmas, LABELS, draws), atol=1e-8, rtol=0)
    assert not torch.allclose(ours, churned(model, x, sigmas, LABELS, draws, STILL, HEUN), atol=0.01) and not draws.given


@pytest.mark.parametrize("steps", [5, 18])
@torch.no_grad()
def test_levels_and_heun_equal_diffusers(steps: int) -> None:
    """On a random network: its levels, in float32 there, and its steps on these."""
    scheduler = HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", use_karras_sigmas=True)
    scheduler.set_timesteps(steps)
    levels = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]])
    low, high = span(sigma_of(linear_alpha_bar()))
    assert torch.allclose(rho_levels(steps, low, high, 7.0), levels.double(), rtol=2e-4, atol=0)
    model, x = denoiser(), noise(float(levels[0]))
    theirs, scheduler.sigmas = x, scheduler.sigmas.double()
    for k, t in enumerate(scheduler.timesteps):
        level = scheduler.sigmas[k].expand(3)
        eps = (theirs - model(theirs, level, LABELS)) / level[0]
        theirs = scheduler.step(eps, t, theirs).prev_sample
    ours = churned(model, x, levels.double(), LABELS, Recorded(SEEDS), STILL)
    assert torch.allclose(ours, theirs, atol=1e-8, rtol=0) and float(ours.std()) > 0.01


@pytest.mark.parametrize("amount", [2.0, 80.0], ids=["churned", "clipped"])
@torch.no_grad()
def test_fresh_noise_equals_diffusers(amount: float) -> None:
    """Algorithm 2 as diffusers has it, on a random network, over levels within and without S_min..S_max, fed our noise."""
    scheduler = KarrasVeScheduler(s_churn=amount, s_min=0.1, s_max=20, s_noise=1.05)
    model, sigmas, draws = denoiser(), rho_levels(8, *span(sigma_of(linear_alpha_bar())), 7.0), Recorded(SEEDS)
    scheduler.num_inference_steps = 8
    x = noise(float(sigmas[0]))
    ours = churned(model, x, sigmas, LABELS, draws, Churn(amount=amount, low=0.1, high=20.0, noise=1.05))
    given = iter(draws.given)
    for reached, low in itertools.pairwise(sigmas.tolist()):
        _, high = scheduler.add_noise_to_input(x, reached)
        fresh = next(given) if high > reached else torch.zeros_like(x)
        x = x + (high**2 - reached**2) ** 0.5 * 1.05 * fresh
        first = scheduler.step(direction(model, x, high), high, low, x)
        if low > 0:
            ahead = first.prev_sample
            second = direction(model, ahead, low)
            first = scheduler.step_correct(second, high, low, x, ahead, first.derivative)
        x = first.prev_sample
    assert torch.allclose(ours, x, atol=1e-8, rtol=0) and next(given, None) is None and 2 <= len(draws.given) < 8


def direction(model: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """What `KarrasVeScheduler` takes for a network's output: (D - x) / sigma."""
    return (model(x, torch.full((3,), sigma, dtype=torch.float64), LABELS) - x) / sigma


def test_gamma_ends_at_the_root_of_two() -> None:
    """So that the variance doubles at the most; outside S_min..S_max, both within it, nothing happens."""
    churn = Churn(amount=2.0, low=0.1, high=10.0)
    assert churn.raised(1.0, 20) == pytest.approx(1.1) and churn.raised(1.0, 2) ** 2 == pytest.approx(2.0)
    assert [churn.raised(s, 20) > s for s in (0.0999, 0.1, 10.0, 10.001)] == [False, True, True, False]


def test_levels_are_equal_steps_of_a_root() -> None:
    levels = rho_levels(18, 0.002, 80.0, 7.0)
    assert (float(levels[0]), float(levels[-2]), float(levels[-1])) == (pytest.approx(80), pytest.approx(0.002), 0)
    assert float(levels[:-1].pow(1 / 7).diff().std()) < 1e-12
    assert float(rho_levels(3, 1.0, 3.0, 1.0)[1]) == pytest.approx(2.0)


@pytest.mark.parametrize(("method", "order"), [(EULER, 1), (HEUN, 2)])
@torch.no_grad()
def test_order_of_convergence(method: Tableau, order: int) -> None:
    """Against the exact flow from 80 to 0.002, which multiplies x by the ratio of the levels' standard deviations."""
    x, exact = torch.ones(1, 1, 1, 1, dtype=torch.float64), probability_flow_sd(VARIANCE, 0.002) / probability_flow_sd(VARIANCE, 80.0)
    errors = []
    for steps in (160, 320, 640):
        levels = rho_levels(steps + 1, 0.002, 80.0, 7.0)[:-1]
        errors.append(abs(float(churned(gaussian(), x, levels, torch.zeros(1), Recorded(SEEDS), STILL, method)) / exact - 1))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1) and errors[1] / errors[2] == pytest.approx(2**order, rel=0.1)


def final_variance(steps: int, churn: Churn) -> float:
    """Exact, of images of one pixel, begun in the true law at 80."""
    levels = rho_levels(steps, 0.002, 80.0, 7.0)
    raised = sum(churn.raised(s, steps) > s for s in levels.tolist())
    draws = Impulses(1 + raised)
    x = probability_flow_sd(VARIANCE, 80.0) * draws.normal(1, 1, 1)
    return float(draws.variance(churned(gaussian(), x, levels, torch.zeros(1 + raised), draws, churn)))


@torch.no_grad()
def test_fresh_noise_keeps_the_law() -> None:
    """With the exact score the samples' variance is that of the data, up to an error of second order; with more than the due noise not."""
    for amount in (0.0, 5.0, 40.0):
        coarse, fine = (final_variance(steps, Churn(amount=amount)) / VARIANCE - 1 for steps in (200, 400))
        assert abs(fine) < 2e-3 and coarse / fine == pytest.approx(4, rel=0.15)
    assert final_variance(400, Churn(amount=40.0, noise=1.05)) > 1.05 * VARIANCE


@torch.no_grad()
def test_fresh_noise_mends_errors_of_the_start() -> None:
    """A start of half the deviation is forgotten under churn, and kept without it."""
    x, levels = torch.full((1, 1, 1, 1), 40.0, dtype=torch.float64), rho_levels(100, 0.002, 80.0, 7.0)
    left = []
    for amount in (0.0, 100.0):
        draws = Impulses(1 + sum(Churn(amount=amount).raised(s, 100) > s for s in levels.tolist()))
        begun = draws.normal(1, 1, 1) * x
        out = churned(gaussian(), begun, levels, torch.zeros(draws.count), draws, Churn(amount=amount))
        left.append(float(draws.variance(out)))
    assert left[0] == pytest.approx(VARIANCE / 4, rel=0.02) and left[1] == pytest.approx(VARIANCE, rel=0.03)
