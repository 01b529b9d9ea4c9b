"""Training-free samplers on networks of other chains: each converges at its order to the closed form, and asks only about known levels."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from scipy.optimize import brentq
from torch import Tensor

from bench.contract import Denoiser, Strategy
from bench.diffusion.denoisers.exact import GaussianDenoiser, MixtureDenoiser
from bench.diffusion.denoisers.parametrise import EpsDenoiser, Wrapped
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.grids import Grid, karras, leading, linspace, log_snr, quadratic, trailing
from bench.diffusion.loops import Variance, ancestral, ddim
from bench.diffusion.schedules import cosine_alpha_bar, linear_alpha_bar, scaled_linear_alpha_bar, sigma_of, within
from bench.diffusion.solvers import sde
from bench.diffusion.solvers.analytic import optimal_variance
from bench.diffusion.solvers.churn import Churn, churned
from bench.diffusion.solvers.runge_kutta import EULER, HEUN
from strategies.eds.representation.ddim import DDIM
from strategies.eds.score_sde.emsde import EMSDE
from strategies.eds.score_sde.pf_ode import Sampler, ScoreSDE
from strategies.eds.state_space.ddpm import DDPM
from strategies.eps.scheduling.edm_sampler import EDMSampler
from tests.impulses import Impulses
from tests.oracles import Recorded, lively_unet, request

LINEAR = "linear"
CHAINS = {LINEAR: linear_alpha_bar(), "cosine": cosine_alpha_bar(), "scaled_linear": scaled_linear_alpha_bar()}
TABLES = {name: sigma_of(alpha_bar) for name, alpha_bar in CHAINS.items()}
RULES: tuple[Grid, ...] = (leading, trailing, quadratic, linspace, karras, log_snr)
WEIGHTS, MEANS, VARIANCES = (torch.tensor(values, dtype=torch.float64) for values in ((0.4, 0.6), (-0.5, 0.4), (0.01, 0.04)))
VARIANCE = 0.25
NOBODY = torch.zeros(1)
NO_DRAWS = Recorded(torch.zeros(1, dtype=torch.long))

Sample = Callable[[Denoiser, Tensor, Tensor], Tensor]
"""(denoiser, x at the first level, levels) -> x at the last level."""


class Bounded(Wrapped):
    """A denoiser that refuses, as a network does, what its chain does not reach."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        within(sigma, self.sigmas)
        out: Tensor = self.denoiser(x, sigma, labels)
        return out


def gaussian(table: str) -> Denoiser:
    return Bounded(GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE), TABLES[table]).double())


def mixture(table: str) -> Denoiser:
    return Bounded(MixtureDenoiser(WEIGHTS, MEANS, VARIANCES, TABLES[table]))


def transported(x: float, high: float, low: float, weights: Tensor, means: Tensor, variances: Tensor) -> float:
    """Where the probability flow of one pixel takes x from level `high` to `low`: to the same quantile, as it keeps the order."""

    def share(point: float, sigma: float) -> float:
        return float(weights @ torch.special.ndtr((point - means) / (variances + sigma**2).sqrt()))

    wanted = share(x, high)
    return float(brentq(lambda point: share(point, low) - wanted, -10 - abs(x), 10 + abs(x), xtol=1e-14, rtol=1e-14))


def in_log_sigma(denoiser: Denoiser, x: Tensor, levels: Tensor) -> Tensor:
    """The flow of the variance-preserving coordinates, as `ScoreSDE` solves it."""
    score, times = sde.score_of(denoiser, NOBODY), sde.time_at(levels).tolist()
    y = x / (1 + levels[0] ** 2).sqrt()
    for high, low in itertools.pairwise(times):
        y = sde.probability_flow(score, y, high, low, NO_DRAWS)
    return y * (1 + levels[-1] ** 2).sqrt()


SOLVERS: dict[str, tuple[Sample, int]] = {
    "ddim": (lambda denoiser, x, levels: ddim(denoiser, x, levels, NOBODY, NO_DRAWS), 1),
    "euler": (lambda denoiser, x, levels: churned(denoiser, x, levels, NOBODY, NO_DRAWS, Churn(), EULER), 1),
    "heun": (lambda denoiser, x, levels: churned(denoiser, x, levels, NOBODY, NO_DRAWS, Churn(), HEUN), 2),
    "heun in log sigma": (in_log_sigma, 2),
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("solver", "rule"), [*itertools.product(SOLVERS, [log_snr]), *itertools.product(["ddim", "heun"], [karras])])
@pytest.mark.parametrize("data", ["gaussian", "mixture"])
@torch.no_grad()
def test_deterministic_samplers_converge_at_their_order_to_the_exact_flow(table: str, solver: str, rule: Grid, data: str) -> None:
    sample, order = SOLVERS[solver]
    if data == "gaussian":
        law, model = (torch.ones(1).double(), torch.zeros(1).double(), torch.full((1,), VARIANCE).double()), gaussian(table)
    else:
        law, model = (WEIGHTS, MEANS, VARIANCES), mixture(table)
    errors = []
    for steps in (250, 500):
        levels = rule(TABLES[table], steps + 1)[:-1]
        high, low = float(levels[0]), float(levels[-1])
        begin = 0.3 + 0.8 * high
        found = float(sample(model, torch.full((1, 1, 1, 1), begin, dtype=torch.float64), levels))
        errors.append(abs(found - transported(begin, high, low, *law)))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.12)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("variance", [posterior_variance, forward_variance])
@torch.no_grad()
def test_the_reverse_chain_converges_at_first_order_in_law(table: str, variance: Variance) -> None:
    """The variance of the samples, known exactly, of Gaussian data begun in its true law at the chain's end."""
    errors = []
    for steps in (80, 160):
        levels, draws = log_snr(TABLES[table], steps), Impulses(steps)
        x = draws.normal(1, 1, 1) * (VARIANCE + levels[0] ** 2) ** 0.5
        out = ancestral(gaussian(table), x, levels, torch.zeros(steps), draws, variance, clip=False)
        last = float(levels[-2])  # its estimate is taken there, and noise is added no more
        errors.append(abs(float(draws.variance(out)) - VARIANCE**2 / (VARIANCE + last**2)))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_the_optimal_variance_is_exact_at_any_number_of_steps(table: str, rule: Grid) -> None:
    """Analytic-DPM on Gaussian data, where every reverse step is a Gaussian: the law is the data's whatever the chain and the rule."""
    levels = rule(TABLES[table], 5)
    draws = Impulses(len(levels) - 1)
    x = draws.normal(1, 1, 1) * (VARIANCE + levels[0] ** 2) ** 0.5

    def optimal(high: float, low: float) -> float:
        return optimal_variance(high, low, VARIANCE * high**2 / (VARIANCE + high**2), 1.0)

    out = ancestral(gaussian(table), x, levels, torch.zeros(draws.count), draws, optimal, clip=False)
    last = float(levels[-2])
    assert float(draws.variance(out)) == pytest.approx(VARIANCE**2 / (VARIANCE + last**2), rel=1e-9)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("rule", RULES)
def test_rules_choose_levels_of_the_chain(table: str, rule: Grid) -> None:
    levels = rule(TABLES[table], 10)
    inside = levels[:-1]
    assert levels[-1] == 0 and bool((levels.diff() < 0).all())
    assert float(inside.min()) >= float(TABLES[table][0]) * (1 - 1e-9) and float(inside.max()) <= float(TABLES[table][-1]) * (1 + 1e-9)
    with pytest.raises(ValueError, match="steps must lie in"):
        leading(TABLES[table], 1001)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (linear_alpha_bar(), {"beta_schedule": "linear"}),
        (cosine_alpha_bar(), {"beta_schedule": "squaredcos_cap_v2"}),
        (scaled_linear_alpha_bar(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    ],
)
def test_tables_are_diffusers(ours: Tensor, theirs: dict[str, Any]) -> None:
    """To the rounding of their float32 products, 1000 of them."""
    assert torch.allclose(ours, DDPMScheduler(**theirs).alphas_cumprod.double(), rtol=2e-4, atol=1e-9)


TRAINING_FREE: list[Strategy[Any]] = [DDPM(steps=5), DDIM(steps=5), DDIM(steps=5, spacing="quadratic"), ScoreSDE(steps=5)]  # type: ignore[arg-type]
LINEAR_ONLY: list[Strategy[Any]] = [EMSDE(), ScoreSDE(steps=5, sampler=Sampler.ANCESTRAL), EDMSampler(steps=5)]


@pytest.mark.parametrize("strategy", [*TRAINING_FREE, *LINEAR_ONLY], ids=str)
@pytest.mark.parametrize("table", TABLES)
@torch.no_grad()
def test_a_level_that_the_network_does_not_know_is_an_error(strategy: Strategy[Any], table: str) -> None:
    """The same strategy, unchanged, on a network of each chain: it stays on the chain, or refuses in one line."""
    model = EpsDenoiser(lively_unet(), TABLES[table])
    if strategy in LINEAR_ONLY and float(TABLES[table][-1]) < 80:
        with pytest.raises(RuntimeError, match="outside of those that the network was trained on"):
            strategy.sample(model, request(2))
    else:
        assert strategy.sample(model, request(2)).shape == (2, 1, 8, 8)


def test_levels_may_miss_the_ends_by_rounding_only() -> None:
    table = TABLES[LINEAR]
    ends = table[[0, -1]]
    assert torch.equal(within(ends * torch.tensor([0.995, 1.005]), table), ends)
    for level in (float(ends[0]) / 1.02, float(ends[1]) * 1.02, math.inf):
        with pytest.raises(RuntimeError, match="noise level"):
            within(torch.tensor([1.0, level], dtype=torch.float64), table)
