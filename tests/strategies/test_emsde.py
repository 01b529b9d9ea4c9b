"""Adaptive steps of the reverse SDE: known costs and variances on Gaussian data, orders of the two solutions, honest counts."""

import dataclasses
import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from bench.diffusion.denoisers.exact import ExactDenoiser, GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.solvers import sde
from bench.meters.calls import counted
from strategies.eds.score_sde.emsde import EMSDE
from tests.oracles import Recorded, denoiser, request

VARIANCE = 0.25


class Tallied(ExactDenoiser):
    """The exact denoiser of N(0, 0.25) that counts evaluations of each image, told apart by the labels."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.exact = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE)).double()
        self.evaluations = torch.zeros(images, dtype=torch.long)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None and len(labels) == len(x) == len(sigma)
        self.evaluations += labels.bincount(minlength=len(self.evaluations))
        out: Tensor = self.exact(x, sigma)
        return out


def solved(strategy: EMSDE, seeds: Tensor, images: int | None = None) -> tuple[Tensor, Tensor]:
    """(x0 (B, 1, 8, 8), evaluations of each image by seed)."""
    model, draws = Tallied(images or len(seeds)), Recorded(seeds)
    return strategy.solve(model, draws.normal(1, 8, 8), seeds, draws), model.evaluations


@pytest.mark.parametrize(("e_rel", "evaluations"), [(0.01, 349), (0.05, 153), (0.1, 90), (0.5, 27)])
def test_cost_on_gaussian_data(e_rel: float, evaluations: int) -> None:
    """Mean evaluations of 64 pixels of N(0, 0.25), a regression table, had with another implementation."""
    _, spent = solved(EMSDE(e_rel=e_rel), torch.arange(32))
    assert float(spent.double().mean()) == pytest.approx(evaluations, rel=0.06)
    assert int(spent.min()) < int(spent.max()) and bool((spent % 2 == 1).all())  # pairs, and the last denoising


def test_smaller_tolerance_costs_more_and_errs_less() -> None:
    """The variance of 65536 pixels has a standard error of 0.0014; that rejected attempts draw anew leaves a bias of about 0.005."""
    errors, costs = [], []
    for tolerance in (2.0, 0.5, 0.1):
        x0, spent = solved(EMSDE(e_rel=tolerance, e_abs=tolerance / 10), torch.arange(1024))
        errors.append(abs(float(x0.var()) - VARIANCE))
        costs.append(float(spent.double().mean()))
    assert errors[0] > 10 * errors[1] and errors[1] > 3 * errors[2] and errors[2] < 0.01
    assert costs[0] < costs[1] < costs[2]


def test_orders_of_the_two_solutions() -> None:
    """Without noise one attempt solves dy/dt = -beta (1/2 - 1/v) y: y' errs as h^2, y'' as h^3."""
    score, y, t = sde.score_of(Tallied(1), torch.zeros(1).long()), torch.ones(1, 1, 1, 1, dtype=torch.float64), 0.3
    errors = []
    for h in (0.004, 0.002):
        growth = quad(lambda s: (0.1 + 19.9 * s) * (0.5 - 1 / (1 - 0.75 * math.exp(-0.1 * s - 9.95 * s**2))), t - h, t)[0]
        at, step = torch.tensor([t], dtype=torch.float64), torch.tensor([h], dtype=torch.float64)
        fine, coarse, _ = EMSDE().attempt(score, y, y, at, step, torch.zeros_like(y))
        errors.append((abs(float(coarse) - math.exp(growth)), abs(float(fine) - math.exp(growth))))
    assert errors[0][0] / errors[1][0] == pytest.approx(4, rel=0.05)
    assert errors[0][1] / errors[1][1] == pytest.approx(8, rel=0.1)


def test_both_solutions_share_their_noise() -> None:
    """Algorithm 1 written out for one pixel: y' and y'' from the same z, and their scaled distance."""
    y, z, t, h, before = 0.4, -1.3, 0.6, 0.05, 2.0

    def part(y: float, t: float) -> float:
        rate, variance = 0.1 + 19.9 * t, 1 - 0.75 * math.exp(-0.1 * t - 9.95 * t**2)
        return h * rate * (y / 2 - y / variance) + math.sqrt(h * rate) * z

    coarse = y + part(y, t)
    fine = (y + coarse + part(coarse, t - h)) / 2
    error = abs(coarse - fine) / max(0.01, 0.2 * max(abs(coarse), before))
    at, length = torch.tensor([t], dtype=torch.float64), torch.tensor([h], dtype=torch.float64)
    pixel = [torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (y, before, z)]
    score = sde.score_of(Tallied(1), torch.zeros(1).long())
    found = EMSDE(e_rel=0.2, e_abs=0.01).attempt(score, pixel[0], pixel[1], at, length, pixel[2])
    assert [float(value) for value in found] == pytest.approx([fine, coarse, error], abs=1e-9)


def test_image_and_its_cost_are_the_same_in_any_batch() -> None:
    together, costs = solved(EMSDE(), torch.arange(8))
    for k in range(8):
        alone, cost = solved(EMSDE(), torch.tensor([k]), images=8)
        assert torch.allclose(alone[0], together[k], atol=1e-9, rtol=0)
        assert int(cost[k]) == int(costs[k]) == int(cost.sum())
    assert len(set(costs.tolist())) > 1


@torch.no_grad()
def test_rejected_attempts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first step of half the time is refused; hooks count two rows an attempt of an image on its way, and the last denoising."""
    model, seen, attempt = denoiser(torch.float32), [], EMSDE.attempt

    def noted(self: EMSDE, *args: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = attempt(self, *args)  # type: ignore[arg-type]
        seen.append(found[2] <= 1)
        return found

    monkeypatch.setattr(EMSDE, "attempt", noted)
    with counted(model) as calls:
        EMSDE(first=0.5).sample(model, request(3))
    attempts = torch.cat(seen)
    assert not seen[0].any() and attempts.any()
    assert calls.rows["net"] == 2 * len(attempts) + 3


def test_score_that_is_not_finite_is_told() -> None:
    nan = GaussianDenoiser(torch.full((1, 1, 1), math.nan), torch.ones(1, 1, 1)).double()
    with pytest.raises(ArithmeticError, match="not finite"):
        EMSDE().solve(nan, torch.zeros(2, 1, 8, 8).double(), torch.zeros(2), Recorded(torch.arange(2)))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_same_images_on_a_gpu() -> None:
    seeds = torch.arange(4)
    there = seeds.cuda()
    asked = dataclasses.replace(request(4), seeds=there, labels=there, device=there.device, draws=lambda: SeededDraws(there))
    strategy = EMSDE(e_rel=0.5)
    images = strategy.sample(denoiser(torch.float32), request(4)).int()
    assert float(((strategy.sample(denoiser(torch.float32).cuda(), asked).cpu().int() - images).abs() <= 1).double().mean()) > 0.99


@pytest.mark.parametrize("bad", [{"e_rel": 0.0}, {"e_abs": -1.0}, {"first": 1.5}, {"safety": 1.0}, {"exponent": 0.0}])
def test_bad_hyper_parameters_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        EMSDE(**bad)
