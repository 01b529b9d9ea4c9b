"""DDRM: its step against the equations read out loud, its limits, and the Gaussian whose posterior is known."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bench.cards import Degradation
from bench.contract import RestoreRequest
from bench.data.operators import LinearOperator, operator
from bench.diffusion.conditioning.restoration import Evidence, first, pseudo_inverse, restored, step
from bench.diffusion.denoisers.exact import ExactDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import leading
from bench.diffusion.loops import ddim, start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from strategies.control.replacement import Replacement
from strategies.eps.training.ddrm import DDRM
from tests.oracles import denoiser

SHAPE = (1, 8, 8)


def sigmas(steps: int) -> Tensor:
    return leading(sigma_of(linear_alpha_bar()), steps)


def of_matrix(matrix: Tensor) -> LinearOperator:
    return LinearOperator(matrix, 1, 8)


def images(count: int = 3) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.5


class GaussianDenoiser(ExactDenoiser):
    """E[x0 | x] of data N(0, variance), every pixel alike."""

    def __init__(self, variance: float) -> None:
        super().__init__()
        self.variance = variance

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return x * (self.variance / (self.variance + sigma.to(x.dtype) ** 2))[:, None, None, None]


def test_step_is_equations_7_and_8_direction_by_direction() -> None:
    op = of_matrix(torch.diag(torch.tensor([2.0, 0.5, 0.1] + [0.0] * 61)))
    y, noise_std, eta, eta_b = images(1).flatten(1), 0.2, 0.6, 0.7
    evidence = Evidence.of(op, y, noise_std)
    z, x0, xi = (torch.randn(1, 64, generator=torch.Generator().manual_seed(k)) for k in (1, 2, 3))
    high, low = 1.5, 0.4  # errors are 0.1 (sharp), 0.4 (a tie: sharp), 2 (blunt), infinite (mute)
    found = step(z, x0, evidence, high, low, eta, eta_b, xi)
    turned = op.observed_spectrum(y)
    for k, s in enumerate(op.singular_values.tolist()):
        v, e, n = x0[0, k].item(), None if s == 0 else noise_std / s, xi[0, k].item()
        if e is None:
            wanted = v + math.sqrt(1 - eta**2) * low * (z[0, k].item() - v) / high + eta * low * n
        elif low < e - 1e-6:
            wanted = v + math.sqrt(1 - eta**2) * low * (turned[0, k].item() / s - v) / e + eta * low * n
        else:
            spread = math.sqrt(max(low**2 - (eta_b * e) ** 2, 0))
            wanted = (1 - eta_b) * v + eta_b * turned[0, k].item() / s + spread * n
        assert abs(found[0, k].item() - wanted) < 1e-4, k


def test_beginning_is_equation_6() -> None:
    op = of_matrix(torch.diag(torch.tensor([1.0, 0.01] + [0.0] * 62)))
    evidence = Evidence.of(op, images(1).flatten(1), 0.5)  # errors 0.5, 50, infinite
    none, unit = (first(evidence, 10.0, noise) for noise in (torch.zeros(1, 64), torch.ones(1, 64)))
    assert torch.allclose(none[0, :2], torch.tensor([evidence.value[0, 0].item(), 0.0]))
    assert torch.allclose((unit - none)[0, :3], torch.tensor([math.sqrt(100 - 0.25), math.sqrt(101), math.sqrt(101)]))


class Squash(ExactDenoiser):
    """A smooth, nonlinear estimate that mixes no pixels, told no label."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(x / (1 + sigma.to(x.dtype)[:, None, None, None] ** 2))


def test_mute_observation_leaves_ddim() -> None:
    """Without observation and eta the chain is DDIM's. (Its eta is another: DDRM renews the share eta^2 of the noise at every step.)"""
    grid, seeds = sigmas(10), torch.arange(3)
    evidence = Evidence.of(of_matrix(torch.zeros(4, 64)), torch.zeros(3, 4), 0.0)
    ours = restored(Squash(), evidence, grid, None, SeededDraws(seeds), SHAPE, eta=0.0, eta_b=1.0)
    draws = SeededDraws(seeds)
    theirs = ddim(Squash(), start(draws, SHAPE, grid[0]), grid, seeds, draws)
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("degradation", list(Degradation))
def test_exact_observation_is_explained_exactly(degradation: Degradation) -> None:
    op, x = operator(degradation, 1, 8), images()
    out = restored(
        GaussianDenoiser(0.25), Evidence.of(op, op(x), 0.0), sigmas(10), None, SeededDraws(torch.arange(3)), SHAPE, eta=0.85, eta_b=1.0
    )
    assert torch.allclose(op(out), op(x), atol=1e-4)


def test_identity_without_noise_returns_the_observation() -> None:
    op, x = of_matrix(torch.eye(64)), images()
    evidence = Evidence.of(op, op(x), 0.0)
    out = restored(denoiser(torch.float32), evidence, sigmas(5), None, SeededDraws(torch.arange(3)), SHAPE, eta=0.85, eta_b=1.0)
    assert torch.allclose(out, x, atol=1e-5) and torch.allclose(pseudo_inverse(evidence), x, atol=1e-5)


HALF = torch.eye(64)[:32]


def gaussian_restored(steps: int, noise_std: float, eta: float, count: int = 4000) -> tuple[Tensor, Tensor]:
    """(restorations, originals), each (count, 64), of data N(0, 0.25) of which the first 32 pixels are observed."""
    op, generator = of_matrix(HALF), torch.Generator().manual_seed(5)
    x = 0.5 * torch.randn(count, *SHAPE, generator=generator)
    y = op(x) + noise_std * torch.randn(count, 32, generator=generator)
    out = restored(
        GaussianDenoiser(0.25), Evidence.of(op, y, noise_std), sigmas(steps), None, SeededDraws(torch.arange(count)), SHAPE, eta, 1.0
    )
    return out.flatten(1), x.flatten(1)


def test_gaussian_is_sampled_where_nothing_was_observed() -> None:
    """Without eta the error of the variance 0.25 falls with the steps, as DDIM's does."""
    errors = [abs(float(gaussian_restored(steps, 0.0, eta=0.0)[0][:, 32:].var()) - 0.25) for steps in (10, 40, 160)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01, errors


@pytest.mark.parametrize("steps", [10, 40])
def test_variance_with_eta_is_that_of_the_linear_recursion(steps: int) -> None:
    """z' = (c + sqrt(1 - eta^2) (low / high) (1 - c)) z + eta low xi with c = 0.25 / (0.25 + high^2), from variance 1 + high^2."""
    grid, eta = sigmas(steps).tolist(), 0.85
    variance = 1 + grid[0] ** 2
    for high, low in itertools.pairwise(grid):
        c = 0.25 / (0.25 + high**2)
        variance = (c + math.sqrt(1 - eta**2) * (low / high) * (1 - c)) ** 2 * variance + (eta * low) ** 2
    hidden = gaussian_restored(steps, 0.0, eta)[0][:, 32:]
    assert abs(float(hidden.var()) / variance - 1) < 4 * math.sqrt(2 / hidden.numel())


def test_noisy_observation_is_denoised() -> None:
    """Better than the observation, whose squared error is 0.09, and no better than the posterior mean, 0.0662."""
    out, x = gaussian_restored(20, 0.3, eta=0.85)
    error = float((out - x)[:, :32].square().mean())
    assert 0.25 * 0.09 / (0.25 + 0.09) < error < 0.09, error


def test_without_noise_replacement_is_ddrm_without_eta() -> None:
    net, op, x, seeds = denoiser(torch.float32).eval(), operator(Degradation.SUPER_2, 1, 8), images(), torch.arange(3)
    request = RestoreRequest(
        seeds=seeds,
        labels=seeds,
        shape=SHAPE,
        device=seeds.device,
        draws=lambda: SeededDraws(seeds),
        operator=op,
        observed=op(x),
        noise_std=0.0,
    )
    with torch.no_grad():
        assert torch.equal(Replacement(steps=10).sample(net, request), DDRM(steps=10, eta=0.0).sample(net, request))
        assert not torch.equal(DDRM(steps=10).sample(net, request), DDRM(steps=10, eta=0.0).sample(net, request))


@pytest.mark.parametrize(("field", "value"), [("eta", 1.1), ("eta_b", -0.1), ("steps", 0)])
def test_refusals(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field.removesuffix("_b")):
        DDRM(**{field: value})  # type: ignore[arg-type]
