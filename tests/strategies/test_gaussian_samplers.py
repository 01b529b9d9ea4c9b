"""DDPM and DDIM against diffusers' schedulers on the same network and noise, and against closed forms of Gaussian data."""

import itertools

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from bench.diffusion.denoisers.exact import GaussianDenoiser, probability_flow_sd
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.grids import leading, trailing_times
from bench.diffusion.loops import Variance, ancestral, ddim, start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from strategies.eds.representation.ddim import DDIM
from strategies.eds.state_space.ddpm import DDPM, VARIANCES, ReverseVariance
from tests.oracles import Recorded, denoiser, request

COMMON = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "timestep_spacing": "leading",
}
SEEDS = torch.arange(3)
LABELS = torch.tensor([1, 5, 9])


def grid(steps: int) -> Tensor:
    return leading(sigma_of(linear_alpha_bar()), steps)


def rival(scheduler, model: EpsDenoiser, steps: int, noises: list[Tensor], **step_options: float) -> Tensor:  # type: ignore[no-untyped-def]
    """The scheduler's own loop, in its variance-preserving variables, fed the recorded noise."""
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = linear_alpha_bar()
    scheduler.betas = 1 - scheduler.alphas_cumprod / torch.cat([torch.ones(1, dtype=torch.float64), scheduler.alphas_cumprod[:-1]])
    x, rest = noises[0], iter(noises[1:])
    for t in scheduler.timesteps:
        eps = model.net(x, t.double().expand(len(x)), LABELS)
        if isinstance(scheduler, DDIMScheduler):
            eta = step_options.get("eta", 0.0)
            noise = next(rest, torch.zeros_like(x)) if eta else None
            x = scheduler.step(eps, t, x, eta=eta, variance_noise=noise).prev_sample
        else:
            x = ddpm_step(scheduler, eps, t, x, rest)
    return x


def ddpm_step(scheduler: DDPMScheduler, eps: Tensor, t: Tensor, x: Tensor, rest) -> Tensor:  # type: ignore[no-untyped-def]
    """diffusers draws its noise inside; take its noiseless mean, and add our noise at its variance."""
    torch.manual_seed(0)
    with_noise = scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(0)).prev_sample
    if t == 0:
        return with_noise
    drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    deviation = scheduler._get_variance(t) ** 0.5
    return with_noise - deviation * drawn + deviation * next(rest)


@pytest.mark.parametrize("steps", [5, 50])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@torch.no_grad()
def test_ddim_equals_diffusers(steps: int, eta: float) -> None:
    model, draws, sigmas = denoiser(), Recorded(SEEDS), grid(steps)
    ours = ddim(model, start(draws, (1, 8, 8), sigmas[0]), sigmas, LABELS, draws, eta)
    scheduler = DDIMScheduler(**COMMON, clip_sample=False, set_alpha_to_one=True, steps_offset=0)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    theirs = rival(scheduler, model, steps, draws.given, eta=eta)
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)
    assert ours.std() > 0.01


@pytest.mark.parametrize("steps", [5, 50])
@pytest.mark.parametrize("variance", list(ReverseVariance))
@torch.no_grad()
def test_ddpm_equals_diffusers(steps: int, variance: ReverseVariance) -> None:
    model, draws, sigmas = denoiser(), Recorded(SEEDS), grid(steps)
    x = start(draws, (1, 8, 8), sigmas[0])
    ours = ancestral(model, x, sigmas, LABELS, draws, VARIANCES[variance], clip=True)
    scheduler = DDPMScheduler(**COMMON, clip_sample=True, variance_type=f"fixed_{variance}")
    theirs = rival(scheduler, model, steps, draws.given)
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=0)


@torch.no_grad()
def test_ddim_with_eta_one_is_ddpm_with_small_variance() -> None:
    """The chain is the same; the last step aside, where both return the estimate."""
    model, sigmas = denoiser(), grid(20)
    runs = []
    for sampler in (
        lambda x, d: ddim(model, x, sigmas, LABELS, d, eta=1.0),
        lambda x, d: ancestral(model, x, sigmas, LABELS, d, posterior_variance, clip=False),
    ):
        draws = Recorded(SEEDS)
        runs.append(sampler(start(draws, (1, 8, 8), sigmas[0]), draws))
    assert torch.allclose(*runs, atol=1e-10, rtol=0)


def final_sd(steps: int, variance: Variance | None, data_variance: float = 0.25) -> float:
    """Standard deviation that a linear sampler brings a unit-normal start to, computed exactly by following the variance."""
    sigmas = grid(steps).tolist()
    total = 1 + sigmas[0] ** 2
    for high, low in itertools.pairwise(sigmas):
        gain = data_variance / (data_variance + high**2)
        factor = gain + (low / high if variance is None else (low / high) ** 2) * (1 - gain)
        total = factor**2 * total + (variance(high, low) if variance and low > 0 else 0.0)
    return total**0.5


@pytest.mark.parametrize(("steps", "published"), [(10, 0.374), (50, 0.472), (200, 0.493), (1000, 0.498)])
@torch.no_grad()
def test_ddim_on_gaussian_data(steps: int, published: float) -> None:
    """Data N(0, 0.25): the closed form of every step, a regression table, and the sampler itself."""
    exact = final_sd(steps, None)
    assert exact == pytest.approx(published, abs=1.5e-3)
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25)).double()
    draws, sigmas = Recorded(torch.arange(50)), grid(steps)
    x = start(draws, (1, 8, 8), sigmas[0])
    out = ddim(model, x, sigmas, torch.zeros(50), draws)
    assert torch.allclose(out, x * (exact / (1 + float(sigmas[0]) ** 2) ** 0.5), atol=1e-10)


@pytest.mark.parametrize(
    ("variance", "table"),
    [(forward_variance, {1000: 0.2508, 50: 0.2675, 10: 0.3470}), (posterior_variance, {1000: 0.2461, 50: 0.1972, 10: 0.1111})],
)
def test_ddpm_variances_bracket_the_truth(variance: Variance, table: dict[int, float]) -> None:
    """Data N(0, 0.25): the large variance ends above 0.25 and the small one below, by known amounts."""
    for steps, expected in table.items():
        assert final_sd(steps, variance) ** 2 == pytest.approx(expected, abs=6e-3)


@torch.no_grad()
def test_ddim_converges_to_the_probability_flow_at_first_order() -> None:
    """Error against the exact flow halves when the steps double."""
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25)).double()
    errors = []
    for steps in (80, 160, 320):
        sigmas = torch.logspace(2, -3, steps + 1, dtype=torch.float64)
        x = torch.full((1, 1, 1, 1), 50.0, dtype=torch.float64)
        out = ddim(model, x, sigmas, torch.zeros(1), Recorded(torch.zeros(1, dtype=torch.long)))
        flow = probability_flow_sd(0.25, float(sigmas[-1])) / probability_flow_sd(0.25, float(sigmas[0]))
        errors.append(abs(float(out) - 50.0 * flow))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1) and errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_trailing_grid_is_nested() -> None:
    assert set(trailing_times(4, 1000).tolist()) <= set(trailing_times(8, 1000).tolist()) <= set(trailing_times(16, 1000).tolist())
    assert trailing_times(4, 1000).tolist() == [999, 749, 499, 249]


@pytest.mark.parametrize("build", [lambda: DDIM(steps=0), lambda: DDIM(eta=1.5), lambda: DDPM(steps=-1)])
def test_bad_hyper_parameters_are_refused(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="must"):
        build()


@torch.no_grad()
def test_ddim_strategy_uses_the_labels() -> None:
    model, strategy = denoiser(torch.float32), DDIM(steps=4)
    assert not torch.equal(strategy.sample(model, request(2, labels=[0, 1])), strategy.sample(model, request(2, labels=[3, 4])))
