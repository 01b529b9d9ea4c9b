"""Analytic-DPM and Analytic-DDIM: closed forms of Gaussian data, the paper's formula in its own variables, the bounds, identities."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.grids import at, leading, leading_times
from bench.diffusion.likelihood import gaussian_bound, prior_divergence
from bench.diffusion.loops import ancestral, start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.diffusion.solvers.analytic import Analysed, AnalysedChain, bounded_spread, gentle_end, noise_power, optimal_variance, path_costs
from bench.training.levels import spread_by_level
from strategies.eds.representation.ddim import DDIM
from strategies.eds.state_space.ddpm import DDPM, ReverseVariance
from strategies.eps.training.analytic_ddim import AnalyticDDIM
from strategies.eps.training.analytic_dpm import AnalyticDPM, Path
from tests.oracles import Recorded, denoiser, kit_of, request

TABLE = sigma_of(linear_alpha_bar())
VARIANCE = 0.25
NONE = torch.zeros(1000, dtype=torch.float64)
EXACT = VARIANCE * TABLE**2 / (VARIANCE + TABLE**2)  # Var(x0 | x) of Gaussian data


def gaussian(variance: float = VARIANCE) -> Denoiser:
    return GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), variance)).double()


def levels(steps: int) -> list[float]:
    return leading(TABLE, steps).tolist()


def test_exact_power_gives_the_exact_conditional_variance() -> None:
    """The exact network predicts sigma x / (v + sigma^2), whose mean square is sigma^2 / (v + sigma^2)."""
    assert torch.allclose(bounded_spread(TABLE, TABLE**2 / (VARIANCE + TABLE**2)), EXACT, rtol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [5, 50])
def test_variance_equals_theorem_1_in_the_papers_variables(steps: int, eta: float) -> None:
    power = (TABLE**2 / (0.6 + TABLE**2)).tolist()
    for high, low in itertools.pairwise(levels(steps)[:-1]):
        abar, abar_next = 1 / (1 + high**2), 1 / (1 + low**2)
        step_alpha, bar_beta, bar_beta_next = abar / abar_next, 1 - abar, 1 - abar_next
        lambda_square = eta**2 * bar_beta_next / bar_beta * (1 - step_alpha)  # DDIM's, eta 1 is beta tilde
        t = int((TABLE - high).abs().argmin())
        score_power = power[t] / bar_beta  # Gamma, the mean square of the score
        factor = (bar_beta / step_alpha) ** 0.5 - (bar_beta_next - lambda_square) ** 0.5
        wanted = lambda_square + factor**2 * (1 - bar_beta * score_power)
        ours = optimal_variance(high, low, high**2 * (1 - power[t]), eta) * abar_next
        assert ours == pytest.approx(wanted, rel=1e-9)


def test_variance_lies_between_the_bounds_of_theorem_2() -> None:
    generator = torch.Generator().manual_seed(0)
    power = TABLE**2 / (0.3 + TABLE**2) + 0.3 * torch.randn(1000, generator=generator, dtype=torch.float64)
    spread = bounded_spread(TABLE, power)
    assert bool((power > 1).any()) and bool((power < 0).any())  # the estimate leaves the bounds, the variance does not
    for eta, (t, s) in itertools.product((0.0, 1.0), itertools.combinations(reversed(range(0, 1000, 37)), 2)):
        high, low = float(TABLE[t]), float(TABLE[s])
        ours = optimal_variance(high, low, float(spread[t]), eta) / (1 + low**2)
        abar, abar_next = 1 / (1 + high**2), 1 / (1 + low**2)
        least = eta**2 * (1 - abar_next) / (1 - abar) * (1 - abar / abar_next)
        root = (1 - abar_next - least) ** 0.5
        unlimited = least + ((((1 - abar) * abar_next / abar) ** 0.5) - root) ** 2
        limited = least + (abar_next**0.5 - root * (abar / (1 - abar)) ** 0.5) ** 2  # pixels in [-1, 1]
        assert least * (1 - 1e-9) <= ours <= min(unlimited, limited) * (1 + 1e-9)


@pytest.mark.parametrize("steps", [5, 10, 50, 250])
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_gaussian_data_keep_their_variance_at_any_number_of_steps(steps: int, eta: float) -> None:
    """x ~ N(0, v + sigma^2) at every level: mean and noise of one step bring it exactly to the next."""
    variance = Analysed(gaussian(), TABLE, EXACT).variance(eta)
    total = VARIANCE + levels(steps)[0] ** 2
    for high, low in itertools.pairwise(levels(steps)):
        gain = VARIANCE / (VARIANCE + high**2)
        c = (low**2 - eta**2 * posterior_variance(high, low)) ** 0.5 / high
        total = (gain + c * (1 - gain)) ** 2 * total + variance(high, low)
    assert total == pytest.approx(VARIANCE, rel=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("build", [AnalyticDPM, AnalyticDDIM])
def test_samplers_draw_gaussian_data_in_five_steps(build: type) -> None:
    """Data of variance 0.05, so that the ends of the grey levels matter little; without v there is far less."""
    for spread, near in ((0.05 * TABLE**2 / (0.05 + TABLE**2), True), (NONE, False)):
        model = AnalysedChain(gaussian(0.05).float(), TABLE, spread)
        images = build(steps=5, clip=False, grey_levels=256.0).sample(model, request(1000)).double() / 127.5 - 1
        assert (abs(float(images.var()) / 0.05 - 1) < 0.03) == near


@torch.no_grad()
def test_without_spread_it_is_ddpm_and_ddim() -> None:
    model = denoiser(torch.float32)
    chain = AnalysedChain(model, TABLE, NONE)
    small = DDPM(steps=7, variance=ReverseVariance.SMALL)
    assert torch.equal(AnalyticDPM(steps=7).sample(chain, request(4)), small.sample(model, request(4)))
    assert torch.equal(AnalyticDDIM(steps=7, clip=False).sample(chain, request(4)), DDIM(steps=7).sample(model, request(4)))
    x0 = torch.randint(256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    assert torch.equal(AnalyticDPM(steps=7).bits_per_dim(chain, x0, request(4)), small.bits_per_dim(model, x0, request(4)))
    with_spread = AnalysedChain(model, TABLE, EXACT)
    assert not torch.equal(AnalyticDPM(steps=7).sample(with_spread, request(4)), small.sample(model, request(4)))
    assert not torch.equal(AnalyticDDIM(steps=7).sample(with_spread, request(4)), AnalyticDDIM(steps=7).sample(chain, request(4)))


def test_last_noise_is_held_to_grey_levels() -> None:
    variance = Analysed(gaussian(), TABLE, EXACT).variance(1.0)
    grid = levels(10)
    held = gentle_end(variance, grid[-2], 2.0)
    assert [held(*step) == variance(*step) for step in itertools.pairwise(grid[:-1])] == [True] * 8 + [False]
    deviation = (held(grid[-3], grid[-2]) / (1 + grid[-2] ** 2)) ** 0.5
    assert deviation**2 == pytest.approx(3.87e-4, rel=2e-3)  # table 7, y = 2
    draws = deviation * SeededDraws(torch.arange(20_000)).normal(4).double()
    assert float(draws.abs().mean()) == pytest.approx(2 * 2 / 255, rel=0.02)
    assert gentle_end(variance, grid[-2], 1e6)(grid[-3], grid[-2]) == variance(grid[-3], grid[-2])


@torch.no_grad()
def test_estimate_over_images_finds_the_closed_form() -> None:
    """Images of half-grey noise; a few of them suffice at all levels, where v is a small difference at high ones."""
    pixels = (0.25 * SeededDraws(torch.arange(64)).normal(1, 8, 8)).clamp(-1, 1)
    images = ((pixels + 1) * 127.5).round().byte()
    spread = float((images.double() / 127.5 - 1).var())
    seen: list[int] = []
    kit = kit_of(images, torch.zeros(64, dtype=torch.long), train_images=100_000)
    kit = type(kit)(**{**vars(kit), "progress": lambda _what, done, _total: seen.append(done)})
    sigmas, found = spread_by_level(GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), spread)), kit, 0.6)
    closed = spread * sigmas**2 / (spread + sigmas**2)
    assert seen[-1] == 60_000 and torch.equal(sigmas, TABLE)
    telling = TABLE < 3
    assert torch.allclose(found[telling], closed[telling], rtol=0.12)  # of 1280 pixels


def test_regression_on_the_noise_drawn_is_unbiased_and_sharper() -> None:
    """At high noise the prediction is the noise, a little shrunk."""
    generator = torch.Generator().manual_seed(0)
    n = torch.randn(400, 10, 64, generator=generator, dtype=torch.float64)
    predicted = 0.99 * n + 0.02 * torch.randn(400, 10, 64, generator=generator, dtype=torch.float64)
    plain, ours = predicted.square().mean((1, 2)), noise_power(predicted.square().mean(2), n.square().mean(2))
    truth = 0.99**2 + 0.02**2
    assert float(ours.mean()) == pytest.approx(truth, abs=4 * float(ours.std()) / 20)
    assert float((ours - truth).std()) < 0.1 * float((plain - truth).std())


@torch.no_grad()
def test_bound_is_the_entropy_and_the_gain_of_each_step() -> None:
    """Gaussian data with the exact denoiser: prior + sum of log(variance / lambda^2) / 2 + a decoder with variance v; none is lower."""
    x0 = ((0.2 * SeededDraws(torch.arange(400)).normal(1, 4, 4).double() + 1) * 127.5).round() / 127.5 - 1
    grid, spread = leading(TABLE, 10), 0.04 * TABLE**2 / (0.04 + TABLE**2)
    model = gaussian(0.04)

    def bound(variance) -> float:  # type: ignore[no-untyped-def]
        return (
            float(gaussian_bound(model, x0, grid, torch.zeros(400), SeededDraws(torch.arange(400) + 1000), variance, clip=False).mean())
            / 16
        )

    analytic = Analysed(model, TABLE, spread).variance(1.0)
    costs, times = path_costs(TABLE, spread), leading_times(10, 1000).tolist()
    noise = float(grid[0] ** 2 / (1 + grid[0] ** 2))
    prior = ((1 - noise) * 0.04 + noise - 1 - math.log(noise)) / 2
    gains = sum(float(costs[t, s]) for t, s in itertools.pairwise(times))
    levels_of_grey = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    last = float(spread[0])
    decoder = 0.5 * math.log(2 * math.pi * math.e * last) - math.log(float(levels_of_grey[1] - levels_of_grey[0]))
    assert bound(analytic) == pytest.approx(prior + gains + decoder, rel=0.02)
    for other in (posterior_variance, forward_variance, lambda h, low: 1.3 * analytic(h, low), lambda h, low: 0.7 * analytic(h, low)):
        assert bound(analytic) < bound(other)


@torch.no_grad()
def test_decoder_has_the_optimal_variance_too() -> None:
    """A chain of one step from half the noise: the entropy of x0 given x, where beta is fifteen times too large."""
    x0 = ((0.2 * SeededDraws(torch.arange(400)).normal(1, 4, 4).double() + 1) * 127.5).round() / 127.5 - 1
    grid, v = at(torch.tensor([300]), TABLE), 0.04 * TABLE**2 / (0.04 + TABLE**2)
    variance, draws = Analysed(gaussian(0.04), TABLE, v).variance(1.0), SeededDraws(torch.arange(400) + 1000)
    nats = gaussian_bound(gaussian(0.04), x0, grid, torch.zeros(400), draws, variance, clip=False)
    decoder = float((nats - prior_divergence(x0, float(grid[0]))).mean()) / 16
    assert decoder == pytest.approx(0.5 * math.log(2 * math.pi * math.e * float(v[300])) - math.log(2 / 255), rel=0.01)


@torch.no_grad()
def test_optimal_path_keeps_both_ends_and_lowers_the_cost() -> None:
    mixed = (0.01 * TABLE**2 / (0.01 + TABLE**2) + EXACT) / 2  # pixels of two variances, which one variance of the step must serve
    model, costs = AnalysedChain(gaussian(), TABLE, mixed), path_costs(TABLE, mixed)
    before = math.inf
    for steps in (2, 5, 10, 100, 256):
        sigmas = AnalyticDPM(steps=steps, path=Path.OPTIMAL).sigmas(model)
        times = [int((TABLE - s).abs().argmin()) for s in sigmas[:-1]]
        assert len(times) == steps and times[0] == 999 and times[-1] == 0 and times == sorted(set(times), reverse=True)
        total = sum(float(costs[t, s]) for t, s in itertools.pairwise(times))
        even = torch.linspace(999, 0, steps).round().long().tolist()
        assert total < before and (steps == 2 or total < sum(float(costs[t, s]) for t, s in itertools.pairwise(even)))
        before = total


def test_all_paths_are_alike_for_gaussian_data() -> None:
    """A chain of exact steps is exact with any number of them: the costs telescope."""
    costs = path_costs(TABLE, EXACT)
    whole = float(costs[999, 0])
    for times in ([999, 500, 0], [999, 998, 30, 1, 0], list(range(999, -1, -1))):
        assert sum(float(costs[t, s]) for t, s in itertools.pairwise(times)) == pytest.approx(whole, rel=1e-9)


@torch.no_grad()
def test_strategies_use_their_own_mean_and_the_labels() -> None:
    model, draws = denoiser(), Recorded(torch.arange(3))
    sigmas = leading(TABLE, 4)
    chain = AnalysedChain(model, TABLE, EXACT)
    x = start(draws, (1, 8, 8), sigmas[0])
    wanted = ancestral(model, x, sigmas, torch.arange(3), draws, gentle_end(chain.variance(1.0), float(sigmas[-2]), 2.0), clip=True)
    ours = AnalyticDPM(steps=4).sample(chain, request(3, draws=Recorded(torch.arange(3))))
    assert torch.equal(ours, ((wanted + 1) * 127.5).round().clamp(0, 255).byte())
    other = AnalyticDDIM(steps=4).sample(chain, request(3, draws=Recorded(torch.arange(3))))
    assert not torch.equal(ours, other)
    assert not torch.equal(AnalyticDDIM(steps=4).sample(chain, request(3, labels=[5, 6, 7], draws=Recorded(torch.arange(3)))), other)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"path": Path.OPTIMAL, "steps": 1}, {"path": Path.OPTIMAL, "steps": 257}, {"share": 0.0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        AnalyticDPM(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"steps": -1}, {"share": 0.0}, {"grey_levels": -1.0}])
def test_bad_hyper_parameters_of_ddim_are_refused(fields: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="must"):
        AnalyticDDIM(**fields)  # type: ignore[arg-type]
