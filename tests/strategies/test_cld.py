"""CLD: kernels against matrix exponentials of fifty digits, samplers against the law of Gaussian data, the loss against a known x0."""

from functools import cache

import mpmath
import pytest
import torch
from torch import Tensor

from bench.diffusion.draws import SeededDraws
from bench.meters.calls import counted
from bench.nets.ema import seeded
from bench.nets.unet import UNet
from strategies.eds.score_sde.cld import CLD, INTEGRATORS, LangevinModel, hybrid_loss
from strategies.eds.score_sde.cld.langevin import (
    LAST_TIME,
    Kernel,
    Langevin,
    at_rest,
    denoised,
    euler_maruyama,
    kernel,
    perturbed,
    quadratic_steps,
    sscs,
)
from tests.impulses import Impulses
from tests.oracles import request

PROCESS = Langevin()
DATA_VARIANCE = 0.25


def exact(process: Langevin, t: float, gamma: float) -> tuple[Tensor, Tensor]:
    """(mean matrix, covariance), each (2, 2), by Van Loan's exponential of the drift beside the noise."""
    mpmath.mp.dps = 50
    drift = mpmath.matrix([[0, process.inverse_mass], [-1, -process.friction * process.inverse_mass]]) * process.beta
    noise = mpmath.matrix([[0, 0], [0, 2 * process.friction * process.beta]])
    block = mpmath.zeros(4)
    block[0:2, 0:2], block[0:2, 2:4], block[2:4, 2:4] = -drift, noise, drift.T
    whole = mpmath.expm(block * t, method="taylor")
    mean = whole[2:4, 2:4].T
    start = mpmath.matrix([[0, 0], [0, gamma * process.mass]])
    covariance = mean * whole[0:2, 2:4] + mean * start * mean.T
    return as_tensor(mean), as_tensor(covariance)


def as_tensor(matrix) -> Tensor:  # type: ignore[no-untyped-def]
    return torch.tensor([[float(matrix[i, j]) for j in range(2)] for i in range(2)], dtype=torch.float64)


def mean_of(step: Kernel) -> Tensor:
    return torch.stack([step.mean_xx, step.mean_xv, step.mean_vx, step.mean_vv]).reshape(2, 2)


def covariance_of(step: Kernel) -> Tensor:
    factor = torch.stack([step.chol_xx, torch.zeros_like(step.chol_xx), step.chol_vx, step.chol_vv]).reshape(2, 2)
    return factor @ factor.T


def time(t: float) -> Tensor:
    return torch.tensor(t, dtype=torch.float64)


@pytest.mark.parametrize("inverse_mass", [1.0, 4.0, 16.0])
@pytest.mark.parametrize("gamma", [0.0, 0.04, 1.0])
@pytest.mark.parametrize("t", [5e-7, 1e-5, 1e-3, 0.1, 1.0])
def test_kernel_equals_a_matrix_exponential(inverse_mass: float, gamma: float, t: float) -> None:
    process = Langevin(inverse_mass=inverse_mass, beta=8 * inverse_mass**-0.5)
    ours, (mean, covariance) = kernel(process, time(t), gamma), exact(process, t, gamma)
    assert torch.allclose(mean_of(ours), mean, rtol=1e-12, atol=1e-15)
    assert torch.allclose(covariance_of(ours), covariance, rtol=1e-4 if t < 1e-5 else 1e-6, atol=0)
    assert float(ours.variance_v) == pytest.approx(float(covariance[1, 1]), rel=1e-6)


def test_the_law_of_rest_is_kept_and_reached() -> None:
    rest = torch.diag(torch.tensor([1.0, PROCESS.mass], dtype=torch.float64))
    for t in (1e-3, 0.2, 1.0):
        step = kernel(PROCESS, time(t), 0.0)
        assert torch.allclose(mean_of(step) @ rest @ mean_of(step).T + covariance_of(step), rest, atol=1e-14)
    assert torch.allclose(covariance_of(kernel(PROCESS, time(5.0), 0.04)), rest, atol=1e-12)


def test_hybrid_kernel_is_the_point_kernel_with_the_velocity_integrated_out() -> None:
    for t in (1e-4, 0.05, 0.7):
        point, hybrid = kernel(PROCESS, time(t), 0.0), kernel(PROCESS, time(t), 0.04)
        first = torch.diag(torch.tensor([0.0, 0.04 * PROCESS.mass], dtype=torch.float64))
        assert torch.allclose(covariance_of(hybrid), covariance_of(point) + mean_of(point) @ first @ mean_of(point).T, rtol=1e-9, atol=0)
        assert torch.allclose(covariance_of(kernel(PROCESS, time(t), 1e-12)), covariance_of(point), rtol=1e-6)
        assert float(hybrid.chol_vv) > float(point.chol_vv)  # the hybrid target l_t * noise varies less


def test_perturbed_is_the_mean_and_the_factor_of_the_covariance() -> None:
    step, zero, one = kernel(PROCESS, time(0.3), 0.04), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    moves = [perturbed(step, one, zero, zero.repeat(1, 2, 1, 1)), perturbed(step, zero, one, zero.repeat(1, 2, 1, 1))]
    mean = torch.tensor([[float(x), float(v)] for x, v in moves], dtype=torch.float64).T
    assert torch.allclose(mean, exact(PROCESS, 0.3, 0.04)[0], atol=1e-6)
    kicks = [perturbed(step, zero, zero, torch.cat(noise, dim=1)) for noise in ((one, zero), (zero, one))]
    factor = torch.tensor([[float(x), float(v)] for x, v in kicks], dtype=torch.float64).T
    assert torch.allclose(factor @ factor.T, exact(PROCESS, 0.3, 0.04)[1], atol=1e-6)


@cache
def law(process: Langevin, t: float, variance: float) -> Tensor:
    """Covariance (2, 2) of position and velocity at time t for data N(0, variance)."""
    mean, covariance = exact(process, t, process.gamma)
    return covariance + variance * mean[:, :1] @ mean[:, :1].T


def gaussian_score(process: Langevin, times: Tensor, variance: float):  # type: ignore[no-untyped-def]
    inverse = {t: torch.linalg.inv(law(process, t, variance)) for t in times.tolist()}

    def score(state: Tensor, t: float) -> Tensor:
        x, v = state.chunk(2, dim=1)
        return -(inverse[t][1, 0] * x + inverse[t][1, 1] * v)

    return score


def final_variance(sampler, steps: int, process: Langevin, variance: float, rest: bool) -> float:  # type: ignore[no-untyped-def]
    """Exact variance of the sampler's positions, begun at rest or in the true law at time 1."""
    times = quadratic_steps(steps)
    draws = Impulses(2 + steps * (4 if sampler is sscs else 1))
    if rest:
        state = at_rest(process, draws, (1, 1, 1))
    else:
        factor = torch.linalg.cholesky(law(process, 1.0, variance))
        state = torch.einsum("ij,bjhw->bihw", factor, draws.normal(2, 1, 1))
    return float(draws.variance(sampler(gaussian_score(process, times, variance), state, times, process, draws)))


def true_variance(process: Langevin, variance: float) -> float:
    """Of the position at `LAST_TIME`, moved by the denoising step."""
    step = torch.tensor([1.0, -process.inverse_mass * process.beta * LAST_TIME], dtype=torch.float64)
    return float(step @ law(process, LAST_TIME, variance) @ step)


def errors(sampler, *steps: int) -> list[float]:  # type: ignore[no-untyped-def]
    """Of the final variance, begun in the true law."""
    truth = true_variance(PROCESS, DATA_VARIANCE)
    assert truth == pytest.approx(DATA_VARIANCE, rel=1e-3)
    return [abs(final_variance(sampler, n, PROCESS, DATA_VARIANCE, rest=False) - truth) for n in steps]


@pytest.mark.parametrize("sampler", [sscs, euler_maruyama])
def test_samplers_converge_at_first_order(sampler) -> None:  # type: ignore[no-untyped-def]
    """Splitting too, as the score term is left to an Euler step (appendix D)."""
    coarse, middle, fine = errors(sampler, 50, 100, 200)
    assert coarse / middle == pytest.approx(2, rel=0.1) and middle / fine == pytest.approx(2, rel=0.05)
    assert fine < 0.02 * DATA_VARIANCE


def test_euler_is_worse_at_few_steps() -> None:
    for splitting, euler in zip(errors(sscs, 5, 10, 20, 50), errors(euler_maruyama, 5, 10, 20, 50), strict=True):
        assert splitting < 0.6 * euler
    assert errors(sscs, 10)[0] < 0.2 * errors(euler_maruyama, 10)[0]


def test_splitting_from_rest_reaches_the_variance_of_the_data() -> None:
    assert final_variance(sscs, 200, PROCESS, DATA_VARIANCE, rest=True) == pytest.approx(DATA_VARIANCE, rel=0.02)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_splitting_is_exact_at_rest_and_euler_is_not(steps: int) -> None:
    """Data N(0, 1) and gamma = 1: the score term is nothing, and what is left is solved exactly."""
    process = Langevin(gamma=1.0)
    truth = 1 + process.mass * (process.inverse_mass * process.beta * LAST_TIME) ** 2
    assert final_variance(sscs, steps, process, 1.0, rest=True) == pytest.approx(truth, rel=1e-9)
    assert abs(final_variance(euler_maruyama, steps, process, 1.0, rest=True) - truth) > 0.01


def test_denoising_moves_the_position_back_along_its_velocity() -> None:
    x, v = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), -2.0)
    assert float(denoised(x, v, 0.01, PROCESS)) == pytest.approx(0.5 + 4.0 * 4.0 * 0.01 * 2.0)


def test_steps_shrink_quadratically() -> None:
    times = quadratic_steps(10)
    assert times[0] == 1 and float(times[-1]) == pytest.approx(LAST_TIME) and len(times) == 11
    assert torch.allclose(times.diff().diff(), torch.full((9,), 2 * (1 - LAST_TIME) / 100, dtype=torch.float64))


def test_regression_on_the_hybrid_noise_is_the_score_of_the_whole_law() -> None:
    """E[noise of the velocity | state] = -score / l_t on Gaussian data, with the score from the law's inverse covariance."""
    t, count = 0.2, 200_000
    draws, step = SeededDraws(torch.arange(count)), kernel(PROCESS, time(t), PROCESS.gamma)
    x0, noise = DATA_VARIANCE**0.5 * draws.normal(1, 1, 1).double(), draws.normal(2, 1, 1).double()
    x, v = perturbed(step, x0, torch.zeros_like(x0), noise)
    state = torch.stack([x.flatten(), v.flatten()], dim=1)
    fitted = torch.linalg.lstsq(state, noise[:, 1].reshape(-1, 1)).solution[:, 0]
    expected = float(step.chol_vv) * torch.linalg.inv(law(PROCESS, t, DATA_VARIANCE))[1]
    assert torch.allclose(fitted, expected, rtol=0.02)


class Knowing(LangevinModel):
    """Knows that x0 is `grey`, and so the noise that was drawn."""

    grey = 0.5

    def noise(self, state: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        (x, v), step = state.double().chunk(2, dim=1), self.kernel(t)
        first = (x - step.mean_xx * self.grey) / step.chol_xx
        return ((v - step.mean_vx * self.grey - step.chol_vx * first) / step.chol_vv).float(), step.chol_vv


def network() -> UNet:
    with seeded(0):
        return UNet(2, 1, 10, width=8)


def lively() -> UNet:
    """With none of its parameters zero."""
    net = network()
    with seeded(1):
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return net


def test_loss_vanishes_for_who_knows_the_noise_and_for_no_other() -> None:
    images, labels = torch.full((64, 1, 8, 8), 0.5), torch.zeros(64, dtype=torch.long)
    losses = [
        float(hybrid_loss(model)(images, labels, torch.Generator().manual_seed(0)).detach())
        for model in (Knowing(network(), PROCESS), LangevinModel(network(), PROCESS))
    ]
    assert losses[0] < 1e-3 < 0.05 < losses[1]


@torch.no_grad()
def test_untrained_score_is_the_normal_part() -> None:
    model, state = LangevinModel(network(), PROCESS), torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = -state[:, 1:] / float(exact(PROCESS, 0.3, 0.04)[1][1, 1])
    assert torch.allclose(model.score(state, 0.3, None), expected, rtol=1e-5)


@pytest.mark.parametrize("sampler", list(INTEGRATORS))
@torch.no_grad()
def test_one_evaluation_a_step_and_labels_count(sampler) -> None:  # type: ignore[no-untyped-def]
    model, strategy = LangevinModel(lively(), PROCESS), CLD(steps=5, sampler=sampler)
    with counted(model, with_levels=True) as calls:
        strategy.sample(model, request(3))
    assert calls.calls["net"] == 5 and calls.rows["net"] == 15 and calls.steps() == 5
    assert not torch.equal(strategy.sample(model, request(2, labels=[0, 1])), strategy.sample(model, request(2, labels=[3, 4])))


@pytest.mark.parametrize("fields", [{"steps": 0}, {"steps": 1001}, {"inverse_mass": 0.0}, {"beta": -1.0}, {"gamma": 0.0}, {"gamma": 1.5}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        CLD(**fields)  # type: ignore[arg-type]
