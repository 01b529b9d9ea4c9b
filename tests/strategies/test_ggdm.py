"""The learned sampler: marginals by linear algebra, DDIM as its beginning, an unbiased loss, true gradients, and Gaussian data."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.cards import AssetName
from bench.contract import Denoiser
from bench.diffusion.denoisers.exact import ExactDenoiser, GaussianDenoiser
from bench.diffusion.denoisers.parametrise import Held
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import leading, leading_times
from bench.diffusion.loops import ddim, start
from bench.diffusion.schedules import linear_alpha_bar, sigma_at, sigma_of, time_of
from bench.meters.calls import counted
from bench.testing.subject import tiny_assets
from bench.training.train import train
from strategies.eds.representation.ddim import DDIM
from strategies.eps.noise.ggdm import GGDM, PLANS, PlannedSampler, Told
from strategies.eps.noise.ggdm.sampler import Plan, follow, marginals
from strategies.eps.noise.ggdm.search import Displacements, linear_kid, moments, search_loss
from tests.oracles import Recorded, denoiser, kit_of, request

TABLE = sigma_of(linear_alpha_bar())
PLAN_OF = list(PLANS.items())


def displaced(steps: int, size: float, seed: int = 0) -> Displacements:
    """Displacements drawn at random."""
    free, generator = Displacements(leading_times(steps, 1000), TABLE), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in free.parameters():
            p.copy_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return free


@torch.no_grad()
def test_marginals_equal_the_solution_of_the_linear_system() -> None:
    """All states at once: (I - W) x = c x0 + L z, so that x = (I - W)^-1 (c x0 + L z)."""
    sigma, w, shift, noise = (v.numpy() for v in displaced(4, 0.7).coefficients())
    k = len(w)
    lower, c, spread = np.zeros((k, k)), np.ones(k), np.zeros(k)
    spread[0] = sigma
    for i in range(k - 1):
        lower[i + 1, : i + 1] = w[i, : i + 1]
        c[i + 1] = 1 + shift[i] - w[i, : i + 1].sum()
        spread[i + 1] = noise[i]
    solved = np.linalg.inv(np.eye(k) - lower)
    m, v = marginals(*map(torch.as_tensor, (sigma, w, shift, noise)))
    assert np.allclose(m.numpy(), solved @ c, atol=1e-12)
    assert np.allclose(v.numpy(), np.diag(solved @ np.diag(spread**2) @ solved.T), rtol=1e-12)
    assert abs(m.numpy() - 1).max() > 0.1


@torch.no_grad()
def test_marginals_equal_the_papers_recursion() -> None:
    """Theorem 1: substitute the latest state again and again, until x0 alone is left; a_u, v as in the paper."""
    sigma, w, shift, noise = displaced(5, 0.5).coefficients()
    m, v = marginals(sigma, w, shift, noise)
    to_x0 = 1 + shift - w.tril().sum(1)
    for target in range(1, len(w)):
        a, on_x0, variance = w[target - 1, :target].clone(), to_x0[target - 1].clone(), noise[target - 1] ** 2
        for latest in range(target - 1, 0, -1):
            gain = a[latest].clone()
            a[:latest] += gain * w[latest - 1, :latest]
            on_x0 += gain * to_x0[latest - 1]
            variance = variance + (gain * noise[latest - 1]) ** 2
        assert float(on_x0 + a[0]) == pytest.approx(float(m[target]), abs=1e-12)
        assert float(variance + (a[0] * sigma) ** 2) == pytest.approx(float(v[target]), rel=1e-12)


@pytest.mark.parametrize(("told", "plan"), PLAN_OF)
@pytest.mark.parametrize("steps", [2, 5, 10])
@torch.no_grad()
def test_search_starts_at_ddim(told: Told, plan, steps: int) -> None:  # type: ignore[no-untyped-def]
    """Bit for bit in uint8, and to rounding in the network's float64."""
    model, seeds = denoiser(), torch.arange(4)
    begun = plan(Displacements(leading_times(steps, 1000), TABLE))
    labels, sigmas, draws = seeds % 10, leading(TABLE, steps), Recorded(seeds)
    theirs = ddim(model, start(draws, (1, 8, 8), sigmas[0]), sigmas, labels, draws)
    ours = follow(model, begun, labels, Recorded(seeds), (1, 8, 8))
    assert torch.allclose(ours, theirs, atol=1e-9, rtol=0)
    single = denoiser(torch.float32)
    assert torch.equal(GGDM(steps=steps).sample(PlannedSampler(single, begun), request(4)), DDIM(steps=steps).sample(single, request(4)))


@torch.no_grad()
def test_told_marginals_are_those_of_the_samples() -> None:
    """States drawn with the true x0 in place of its estimate have the mean and the variance that the network is told."""
    plan, seen = displaced(4, 0.3, seed=2).implied(), []
    truth = torch.full((4000, 1, 4, 4), 0.8, dtype=torch.float64)

    def estimate(x: Tensor, sigma: Tensor, _labels: Tensor) -> Tensor:
        seen.append((x, float(sigma[0])))
        return truth

    seeds = torch.arange(4000)
    follow(estimate, plan, seeds, Recorded(seeds), (1, 4, 4))
    for x, sigma in seen[1:]:  # the first begins at 0, not at x0, as every sampler's
        assert float(x.std()) == pytest.approx(sigma, rel=0.02)
    assert len(seen) == 4


def test_distance_is_unbiased() -> None:
    """Over all pairs of halves it averages to 0 where both are from one population, and to |difference of means|^2 elsewhere."""
    generator = torch.Generator().manual_seed(0)
    population = torch.randn((6, 3), generator=generator, dtype=torch.float64)
    shifted = population + torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)
    real = moments(torch.randn((50, 3), generator=generator, dtype=torch.float64))

    def mean_over_samples(pool: Tensor) -> float:
        """Exact expectation of the estimate over samples of two, drawn with replacement from the pool."""
        values = [float(linear_kid(pool[[i, j]], real)) for i, j in itertools.product(range(6), repeat=2)]
        return sum(values) / len(values)

    for pool in (population, shifted):
        exact = float(pool.mean(0).square().sum() - 2 * pool.mean(0) @ real.mean + real.pairs)
        assert mean_over_samples(pool) == pytest.approx(exact, abs=1e-12)
    pairs = [float(a @ b) for a, b in itertools.permutations(population, 2)]
    assert float(moments(population).pairs) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_distance_of_two_halves_averages_to_zero() -> None:
    """Not so the biased estimate, |difference of means|^2, which is 2 D / n = 0.6 here."""
    generator = torch.Generator().manual_seed(1)
    halves = torch.randn((3000, 2, 10, 3), generator=generator, dtype=torch.float64)
    values = torch.stack([linear_kid(a, moments(b)) for a, b in halves])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 3000**0.5 < 0.05


class Doubled(ExactDenoiser):
    """Takes the first state, of float32 draws, into float64."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.inner(x.double(), sigma, labels)


@pytest.mark.parametrize(("told", "plan"), PLAN_OF)
def test_gradients_through_the_sampler(told: Told, plan) -> None:  # type: ignore[no-untyped-def]
    """Autograd through checkpointed calls against finite differences, of every kind of variable."""
    free, seeds = displaced(3, 0.2, seed=4), torch.arange(16)
    images = torch.zeros(16, 1, 8, 8, dtype=torch.float64)
    real = moments(torch.stack([torch.linspace(-1, 1, 64), torch.linspace(1, 0, 64)]).double())
    loss = search_loss(lambda: plan(free), Held(Doubled(denoiser())), lambda x: x.flatten(1).tanh(), real)

    def value() -> Tensor:
        return loss(images, seeds % 10, torch.Generator().manual_seed(0))

    value().backward()
    for name, where in (("w", (1, 0)), ("w", (2, 2)), ("shift", (0,)), ("noise", (1,)), ("time", (1,))):
        parameter: nn.Parameter = getattr(free, name)
        slope = 0.0 if parameter.grad is None else float(parameter.grad[where])
        around = []
        for step in (1e-5, -2e-5):
            with torch.no_grad():
                parameter[where] += step
                around.append(float(value().detach()))
        with torch.no_grad():
            parameter[where] += 1e-5
        assert slope == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-3, abs=1e-8), name
        assert (slope == 0) == (name == "time" and told is Told.MARGINAL), name


def test_sigma_at_is_the_inverse_of_time_of() -> None:
    times = torch.tensor([0.0, 0.3, 17.9, 500.0, 998.5, 999.0], dtype=torch.float64, requires_grad=True)
    assert torch.allclose(time_of(sigma_at(times, TABLE), TABLE), times, atol=1e-9)
    beyond = sigma_at(torch.tensor([-1.0, 1000.0]).double(), TABLE)
    assert torch.allclose(beyond, torch.stack([TABLE[0] ** 2 / TABLE[1], TABLE[-1] ** 2 / TABLE[-2]]))
    assert bool((torch.autograd.grad(sigma_at(times, TABLE).sum(), times)[0] > 0).all())


@pytest.mark.parametrize(("told", "plan"), PLAN_OF)
def test_learned_sampler_improves_on_ddims_variance(told: Told, plan) -> None:  # type: ignore[no-untyped-def]
    """Data N(0, 0.25), three steps, features (x, x^2): DDIM ends at a variance far too small, the learned sampler near the truth."""
    exact = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25))
    generator = torch.Generator().manual_seed(0)
    data = torch.randn((2000, 1, 8, 8), generator=generator) / 2
    kit = kit_of(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), torch.zeros(64, dtype=torch.long), train_batch=64)

    def features(x: Tensor) -> Tensor:
        return torch.cat([x.flatten(1), x.flatten(1).square()], dim=1)

    free = Displacements(leading_times(3, 1000), TABLE)
    begun = plan(free)
    loss = search_loss(lambda: plan(free), exact, features, moments(features(data)))
    found = plan(train(free, loss, kit, images_seen=64 * 120, what="test", lr=0.02))
    errors = [abs(variance_of(exact, made) - 0.25) for made in (begun, found)]
    assert errors[0] > 0.08 and errors[1] < errors[0] / 4, errors


@torch.no_grad()
def variance_of(model: GaussianDenoiser, plan: Plan) -> float:
    seeds = torch.arange(500) + 77
    return float(follow(model, plan, seeds, SeededDraws(seeds), (1, 8, 8)).var())


def test_fit_leaves_the_shared_parts_alone_and_moves_the_sampler() -> None:
    kit = tiny_assets().kit_with((AssetName.DENOISER, AssetName.NOISY_CLASSIFIER))
    for told in Told:
        model = GGDM(steps=3, told=told).fit(kit)
        begun = PLANS[told](Displacements(leading_times(3, 1000), TABLE))
        assert model.denoiser is kit.denoiser()
        assert not torch.equal(model.w, begun.w) and bool((model.noise[:-1] != 0).all())
        assert torch.equal(model.level, begun.level) is False


def test_one_evaluation_a_step() -> None:
    model = PlannedSampler(denoiser(torch.float32), Displacements(leading_times(6, 1000), TABLE).free())
    with counted(model, with_levels=True) as calls:
        GGDM(steps=6).sample(model, request(3))
    assert sum(calls.rows.values()) == 18 and calls.steps() == 6


@pytest.mark.parametrize("fields", [{"steps": 1}, {"steps": 51}, {"lr": 0.0}, {"share": 0.0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        GGDM(**fields)  # type: ignore[arg-type]
