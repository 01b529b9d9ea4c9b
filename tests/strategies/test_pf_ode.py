"""The variance-preserving SDE and its solvers against quadrature, diffusers, and closed forms of Gaussian data."""

import dataclasses
import itertools
import math

import pytest
import torch
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from scipy.integrate import quad
from torch import Tensor

from bench.diffusion.denoisers.exact import GaussianDenoiser, probability_flow_sd
from bench.diffusion.draws import SeededDraws
from bench.diffusion.schedules import linear_alpha_bar, sigma_of, time_of
from bench.diffusion.solvers import sde
from bench.meters.calls import counted
from strategies.eds.score_sde.pf_ode import PREDICTORS, Sampler, ScoreSDE
from tests.oracles import Recorded, denoiser, request

VARIANCE = 0.25  # of the data N(0, 0.25) here
STOCHASTIC = [Sampler.EULER_MARUYAMA, Sampler.REVERSE_DIFFUSION, Sampler.ANCESTRAL]


class Fed:
    """Draws that give this noise, whatever the index."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = noise

    def normal(self, *shape: int) -> Tensor:
        assert shape == tuple(self.noise.shape[1:])
        return self.noise

    uniform = normal


def gaussian() -> GaussianDenoiser:
    return GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE)).double()


def spent(t: float) -> float:
    """The integral of beta up to t, by quadrature."""
    return float(quad(lambda s: 0.1 + (20 - 0.1) * s, 0, t)[0])


def variance_at(t: float) -> float:
    """Variance of y at time t: a^2 v + 1 - a^2."""
    return 1 + math.exp(-spent(t)) * (VARIANCE - 1)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_noise_follows_from_the_integral_of_beta() -> None:
    grid = times(1e-3, 0.01, 0.3, 1.0)
    expected = times(*[math.sqrt(math.exp(spent(t)) - 1) for t in grid.tolist()])
    assert torch.allclose(sde.sigma_at(grid), expected, rtol=1e-10, atol=0)
    assert torch.allclose(sde.time_at(sde.sigma_at(grid)), grid, rtol=1e-9, atol=0)
    discrete = sigma_of(linear_alpha_bar())
    assert float((sde.sigma_at(torch.arange(1, 1001, dtype=torch.float64) / 1000) / discrete).log().abs().max()) < 0.05
    assert sde.sigma_span() == (pytest.approx(0.01049, abs=1e-5), pytest.approx(152.1, abs=0.1))


def test_grids_share_their_ends() -> None:
    for grid in (sde.equal_times(7), sde.equal_ratios(7, sde.sigma_span())):
        assert grid.tolist() == sorted(grid.tolist(), reverse=True) and len(grid) == 7
        assert (float(grid[0]), float(grid[-1])) == (pytest.approx(1), pytest.approx(1e-3))
    ratios = sde.sigma_at(sde.equal_ratios(7, sde.sigma_span()))
    assert torch.allclose(ratios[1:] / ratios[:-1], (ratios[1] / ratios[0]).expand(6), rtol=1e-9)


def test_score_is_the_gradient_of_the_log_density() -> None:
    y, t = SeededDraws(torch.arange(3)).normal(1, 4, 4).double(), times(0.02, 0.4, 0.9)
    expected = -y / times(*[variance_at(s) for s in t.tolist()])[:, None, None, None]
    assert torch.allclose(sde.score_of(gaussian(), torch.zeros(3))(y, t), expected, atol=1e-9, rtol=0)


@torch.no_grad()
def test_euler_maruyama_equals_diffusers() -> None:
    """One step from each of five times on a random network, with the same noise."""
    model, labels, scheduler = denoiser(), torch.tensor([1, 5, 9]), ScoreSdeVpScheduler()
    scheduler.set_timesteps(50)
    y = SeededDraws(torch.arange(3)).normal(1, 8, 8).double()
    for t in (1.0, 0.7, 0.3, 0.1, 0.03):
        high = torch.full((3,), t, dtype=torch.float64)
        eps = model.net(y, time_of(sde.sigma_at(high), model.sigmas), labels)
        theirs, _ = scheduler.step_pred(eps, y, high, generator=torch.Generator().manual_seed(1))
        noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ours = sde.euler_maruyama(sde.score_of(model, labels), y, t, t - 1 / 50, Fed(noise))
        assert torch.allclose(ours, theirs, atol=1e-9, rtol=0) and not torch.allclose(ours, y, atol=0.1)


def solved(sampler: Sampler, steps: int, y: Tensor, seeds: Tensor, corrections: int = 0, snr: float = 0.01) -> Tensor:
    model, grid = gaussian(), ScoreSDE(sampler=sampler, steps=steps).times(sigma_of(linear_alpha_bar()))
    return sde.predict_correct(model, y, grid, seeds, Recorded(seeds), PREDICTORS[sampler], corrections, snr)


def test_flow_maps_linearly_and_converges_at_second_order() -> None:
    """y at 1 goes to y sd(END) / sd(1) in the coordinates x, and from there to E[x0 | x]; the error falls fourfold as steps double."""
    y, (low, high) = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64), sde.sigma_span()
    stretch = probability_flow_sd(VARIANCE, low) / probability_flow_sd(VARIANCE, high) * VARIANCE / (VARIANCE + low**2)
    exact = 0.7 * math.sqrt(1 + high**2) * stretch
    errors = [abs(float(solved(Sampler.PROBABILITY_FLOW, steps, y, torch.zeros(1).long())) - exact) for steps in (161, 321, 641)]
    assert errors[0] < 1e-4 * exact
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1) and errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def followed(sampler: Sampler, steps: int) -> float:
    """Variance of x0 after the sampler's steps, from the papers' formulas applied to one number."""
    total, grid = 1.0, torch.linspace(1, 1e-3, steps).double().tolist()
    for high, low in itertools.pairwise(grid):
        b, pull = 1 - math.exp(spent(low) - spent(high)), 1 / variance_at(high)
        match sampler:
            case Sampler.EULER_MARUYAMA:
                b = (0.1 + 19.9 * high) * (high - low)
                gain = 1 + b / 2 - b * pull
            case Sampler.REVERSE_DIFFUSION:
                gain = 2 - math.sqrt(1 - b) - b * pull
            case _:
                gain = (1 - b * pull) / math.sqrt(1 - b)
        total = gain**2 * total + b
    a = math.exp(-spent(1e-3) / 2)
    return total * (a * VARIANCE / variance_at(1e-3)) ** 2


@pytest.mark.parametrize("sampler", STOCHASTIC)
def test_variance_of_the_stochastic_samplers(sampler: Sampler) -> None:
    """Few steps bring a known variance, many that of the data; the standard error of a variance of 16384 numbers is 1.1 %."""
    seeds = torch.arange(64)
    y = SeededDraws(seeds + 1000).normal(1, 16, 16).double()
    found = float(solved(sampler, 20, y, seeds).var())
    assert found == pytest.approx(followed(sampler, 20), rel=0.045) and abs(found / VARIANCE - 1) > 0.1
    assert followed(sampler, 1000) == pytest.approx(VARIANCE, rel=0.03)
    assert float(solved(sampler, 1000, y, seeds).var()) == pytest.approx(VARIANCE, rel=0.06)


@pytest.mark.parametrize(("snr", "alpha"), [(0.6, 1.0), (0.6, 0.5), (0.02, 1.0)])
def test_corrector_settles_at_its_known_variance(snr: float, alpha: float) -> None:
    """Langevin's step e = 2 alpha r^2 v^2 / s at variance s keeps s where s = v / (1 - e / 2v), that is s = v (1 + alpha r^2)."""
    seeds, t = torch.arange(64), 0.05
    draws, at, share = Recorded(seeds), torch.full((64,), t, dtype=torch.float64), torch.full((64,), alpha, dtype=torch.float64)
    score = sde.score_of(gaussian(), seeds)
    y = draws.normal(1, 16, 16) * variance_at(t) ** 0.5
    for _ in range(100):
        y = sde.langevin(score, y, at, share, snr, draws)
    assert float(y.var()) == pytest.approx(variance_at(t) * (1 + alpha * snr**2), rel=0.03)


def test_corrector_takes_the_norms_of_each_image() -> None:
    """The neighbour's score is a hundred times as large; the image does not know."""
    y = SeededDraws(torch.arange(2)).normal(1, 4, 4).double()
    y[1] *= 100
    score, at = sde.score_of(gaussian(), torch.zeros(2)), torch.full((2,), 0.3, dtype=torch.float64)
    both = sde.langevin(score, y, at, torch.ones(2), 0.16, Recorded(torch.arange(2)))
    alone = sde.langevin(score, y[:1], at[:1], torch.ones(1), 0.16, Recorded(torch.arange(1)))
    assert torch.allclose(both[:1], alone, atol=1e-12, rtol=0) and float((both[0] - y[0]).abs().max()) > 0.01


@torch.no_grad()
def test_likelihood_equals_the_density_of_the_flow() -> None:
    """The exact flow is linear, and its end is judged by the prior; dequantisation is recorded, so that nothing is left to chance."""
    shape, count, (low, high) = (1, 8, 8), 4, sde.sigma_span()
    draws = SeededDraws(torch.tensor([5]))
    mean, variance = draws.uniform(*shape)[0].double() - 0.5, 0.02 + 0.3 * draws.uniform(*shape)[0].double().square()
    images = (draws.uniform(count, *shape)[0] * 256).byte()
    asked = Recorded(torch.arange(count))
    bits = ScoreSDE().bits_per_dim(GaussianDenoiser(mean, variance), images, request(count, draws=asked))  # type: ignore[arg-type]
    point = (images + asked.given[0] - 0.5) / 127.5 - 1
    stretch = ((variance + high**2) / (variance + low**2)).sqrt()
    end, total = mean + stretch * (point - mean), 1 + high**2
    log_p = (stretch.log() - 0.5 * (end.square() / total + math.log(2 * math.pi * total))).flatten(1).sum(1)
    expected = (64 * math.log(127.5) - log_p) / (64 * math.log(2))
    assert torch.allclose(bits, expected, atol=5e-3, rtol=0) and float(expected.std()) > 0.1


@pytest.mark.parametrize(
    ("sampler", "corrections", "expected"), [("probability_flow", 0, 13), ("euler_maruyama", 0, 7), ("ancestral", 2, 19)]
)
@torch.no_grad()
def test_evaluations(sampler: str, corrections: int, expected: int) -> None:
    """Six steps of one or two evaluations and two corrections, and the last time's denoising."""
    model = denoiser(torch.float32)
    with counted(model) as calls:
        ScoreSDE(sampler=Sampler(sampler), steps=7, corrections=corrections).sample(model, request(3))
    assert calls.rows["net"] == 3 * expected


@torch.no_grad()
def test_flow_draws_its_start_alone_and_sees_the_labels() -> None:
    model, images = denoiser(), []
    for labels in ([0, 1], [3, 4]):
        draws = Recorded(torch.arange(2))
        images.append(ScoreSDE(steps=3).sample(model, request(2, draws=draws, labels=labels)))
        assert len(draws.given) == 1
    assert not torch.equal(*images)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_same_images_on_a_gpu() -> None:
    seeds = torch.arange(4)
    there = seeds.cuda()
    asked = dataclasses.replace(request(4), seeds=there, labels=there, device=there.device, draws=lambda: SeededDraws(there))
    strategy = ScoreSDE(sampler=Sampler.EULER_MARUYAMA, steps=5, corrections=1)
    images = strategy.sample(denoiser(torch.float32), request(4)).int()
    assert float(((strategy.sample(denoiser(torch.float32).cuda(), asked).cpu().int() - images).abs() <= 1).double().mean()) > 0.99


@pytest.mark.parametrize("bad", [{"steps": 1}, {"steps": 5000}, {"corrections": -1}, {"snr": 0.0}])
def test_bad_hyper_parameters_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ScoreSDE(**bad)  # type: ignore[arg-type]
