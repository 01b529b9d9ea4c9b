"""DP stride: every path of a short chain enumerated, closed forms of Gaussian data, the whole chain's bound, the sampler's grids."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.grids import at, leading
from bench.diffusion.likelihood import bits_per_dim, gaussian_bound, prior_divergence
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.diffusion.solvers.analytic import path_costs
from bench.diffusion.solvers.stride import LONGEST, cheapest_paths, step_costs
from bench.training.levels import bound_by_level
from strategies.eds.state_space.ddpm import DDPM, ReverseVariance
from strategies.eps.scheduling.dp_stride import DPStride, Path, Strided
from tests.oracles import denoiser, kit_of, request

TABLE = sigma_of(linear_alpha_bar())
VARIANCE = 0.04


def exact() -> Denoiser:
    return GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE))


def closed_form() -> tuple[Tensor, Tensor]:
    """(error, decoder) at every level: Gaussian data, fine bins."""
    error, beta = VARIANCE * TABLE**2 / (VARIANCE + TABLE**2), TABLE**2 / (1 + TABLE**2)
    return error, (2 * math.pi * beta).log() / 2 + error / beta / 2 - math.log(2 / 255)


def enumerated(costs: Tensor, steps: int) -> tuple[float, list[int]]:
    """The cheapest of all paths of exactly `steps` steps, looked at one by one."""
    last = len(costs) - 1
    paths = [[last, *reversed(inner), 0] for inner in itertools.combinations(range(1, last), steps - 1)]
    prices = [sum(float(costs[t, s]) for t, s in itertools.pairwise(path)) for path in paths]
    best = min(range(len(paths)), key=prices.__getitem__)
    return prices[best], paths[best]


@pytest.mark.parametrize("nodes", [2, 3, 8, 13])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_best_of_all_paths(nodes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    costs = torch.randn(nodes, nodes, generator=generator, dtype=torch.float64)  # of either sign, far from any metric
    costs = costs.where(torch.ones_like(costs).tril(-1) > 0, torch.inf)
    total, paths = cheapest_paths(costs, nodes + 1)
    for steps in range(1, nodes):
        price, path = enumerated(costs, steps)
        assert float(total[steps - 1]) == pytest.approx(price, abs=1e-12)
        assert paths[steps - 1].tolist() == path + [0] * (nodes + 2 - len(path))
    assert paths[nodes - 2, :nodes].tolist() == list(reversed(range(nodes)))  # all steps: nothing to choose
    assert bool(total[nodes - 1 :].isinf().all())  # more steps than there are


def test_table_equals_divergences_of_normals() -> None:
    """L(t, s) from the paper's variables: KL of q(x_s | x_t, x0) from a normal of variance beta about the mean with the estimate."""
    sigmas = TABLE[::100]
    error, decoder = torch.linspace(0.01, 0.3, 10, dtype=torch.float64), torch.linspace(1, 2, 10, dtype=torch.float64)
    costs = step_costs(sigmas, error, decoder)
    abar = linear_alpha_bar()[::100]
    for t, s in itertools.product(range(10), range(10)):
        if s >= t:
            assert math.isinf(float(costs[t + 1, s + 1]))
            continue
        alpha = float(abar[t] / abar[s])
        tilde = float((1 - abar[s]) / (1 - abar[t])) * (1 - alpha)
        weight = float(abar[s]) ** 0.5 * (1 - alpha) / (1 - float(abar[t]))  # of x0 in the posterior mean
        shift = weight * float(error[t]) ** 0.5
        pair = [torch.distributions.Normal(m, torch.tensor(v, dtype=torch.float64).sqrt()) for m, v in ((0.0, tilde), (shift, 1 - alpha))]
        assert float(costs[t + 1, s + 1]) == pytest.approx(float(torch.distributions.kl_divergence(*pair)), rel=1e-6)
    assert torch.equal(costs[1:, 0], decoder) and bool(costs[0].isinf().all())


@torch.no_grad()
def test_path_cost_is_the_bound_without_its_prior_also_of_the_whole_chain() -> None:
    """Closed-form Gaussian terms summed along a path against `gaussian_bound` of the sampler's grid."""
    x0 = ((0.2 * SeededDraws(torch.arange(300)).normal(1, 4, 4) + 1) * 127.5).round() / 127.5 - 1
    costs = step_costs(TABLE, *closed_form())
    total, nodes = cheapest_paths(costs, LONGEST)
    whole = float(sum(costs[t + 1, t] for t in range(1000)))
    cases = [(float(total[k - 1]), nodes[k - 1, :k] - 1) for k in (1, 4, 30)] + [(whole, torch.arange(999, -1, -1))]
    for cost, times in cases:
        grid = at(times, TABLE)
        nats = gaussian_bound(exact(), x0, grid, torch.zeros(300), SeededDraws(torch.arange(300) + 1000), forward_variance, clip=False)
        assert float((nats - prior_divergence(x0, float(grid[0]))).mean()) / 16 == pytest.approx(cost, rel=0.02)


def test_every_step_more_helps_where_the_variance_is_optimal() -> None:
    """With beta it need not. Half of the pixels vary by much, half by little, so that steps matter at all."""
    error = sum(v * TABLE**2 / (v + TABLE**2) for v in (0.25, 0.01)) / 2
    total = cheapest_paths(path_costs(TABLE, error), LONGEST)[0]
    assert bool((total.diff() < 0).all())


@torch.no_grad()
def test_table_of_a_fitted_model_finds_the_closed_form() -> None:
    images = ((0.2 * SeededDraws(torch.arange(400)).normal(1, 8, 8) + 1) * 127.5).round().clamp(0, 255).byte()
    kit = kit_of(images, torch.zeros(400, dtype=torch.long), train_images=100_000)
    sigmas, error, decoder = bound_by_level(exact(), kit, 0.2)
    wanted_error, wanted_decoder = closed_form()
    assert torch.equal(sigmas, TABLE)
    assert torch.allclose(error, wanted_error, rtol=0.2) and float((error / wanted_error).mean()) == pytest.approx(1, abs=0.1)
    assert torch.allclose(decoder, wanted_decoder, atol=0.15)
    ours = cheapest_paths(step_costs(sigmas, error, decoder), 10)[1][9, :10]
    costs = step_costs(TABLE, wanted_error, wanted_decoder)
    price = sum(float(costs[t, s]) for t, s in itertools.pairwise([*ours.tolist(), 0]))
    assert price == pytest.approx(float(cheapest_paths(costs, 10)[0][-1]), abs=0.02)  # a path as good as the best


class Shared:
    """A kit's stand-in with an untrained but lively network."""

    @staticmethod
    def fitted(strategy: DPStride, net: Denoiser) -> Strided:
        images = SeededDraws(torch.arange(32)).uniform(1, 8, 8).mul(255).byte()
        kit = kit_of(images, torch.arange(32) % 10, train_images=3000)
        return strategy.fit(type(kit)(**{**vars(kit), "assets": {"denoiser": lambda: net}}))


@torch.no_grad()
def test_bound_of_the_optimal_path_is_the_least_on_the_images_of_the_table() -> None:
    net = denoiser(torch.float32)
    images = SeededDraws(torch.arange(32)).uniform(1, 8, 8).mul(255).byte()
    bits = {}
    for path in Path:
        strategy = DPStride(steps=8, path=path, share=1.0)
        bits[path] = float(strategy.bits_per_dim(Shared.fitted(strategy, net), images, request(32)).mean())
    assert bits[Path.OPTIMAL] < min(bits[Path.QUADRATIC], bits[Path.EVEN])


@torch.no_grad()
def test_even_stride_is_ddpm_with_the_large_variance() -> None:
    net = denoiser(torch.float32)
    ours, theirs = DPStride(steps=6, path=Path.EVEN), DDPM(steps=6, variance=ReverseVariance.LARGE)
    model = Shared.fitted(ours, net)
    assert model.paths.numel() == 0
    assert torch.equal(ours.sample(model, request(4)), theirs.sample(net, request(4)))
    x0 = SeededDraws(torch.arange(4)).uniform(1, 8, 8).mul(255).byte()
    assert torch.equal(ours.bits_per_dim(model, x0, request(4)), theirs.bits_per_dim(net, x0, request(4)))


@torch.no_grad()
def test_optimal_grid_has_the_steps_asked_for_from_the_last_time() -> None:
    model = Shared.fitted(DPStride(), denoiser(torch.float32))
    for steps in (1, 2, 10, LONGEST):
        grid = DPStride(steps=steps).sigmas(model)
        assert len(grid) == steps + 1 and float(grid[0]) == float(TABLE[-1]) and float(grid[-1]) == 0
        assert bool((grid.diff() < 0).all())


def test_short_chains_of_ddpm_are_bounded_as_before_by_either_variance() -> None:
    """The decoder's variance is beta under both, as beta tilde is 0 in the last step."""
    x0, grid = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64), leading(TABLE, 1)
    bounds = [
        gaussian_bound(exact().double(), x0, grid, torch.zeros(1), SeededDraws(torch.zeros(1, dtype=torch.long)), variance, clip=False)
        for variance in (posterior_variance, forward_variance)
    ]
    assert torch.equal(*bounds) and float(bits_per_dim(bounds[0], (1, 2, 2))) > 0


@pytest.mark.parametrize("fields", [{"steps": 0}, {"steps": LONGEST + 1}, {"share": 0.0}, {"path": Path.QUADRATIC, "steps": 0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        DPStride(**fields)  # type: ignore[arg-type]
