"""SDEdit: its two ends (the guide, the unconditional chain), diffusers' own noising and steps, the mean of Gaussian data, its price."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from bench.contract import Draws, EditRequest
from bench.data.images import to_model
from bench.diffusion.conditioning.editing import edited, noised
from bench.diffusion.denoisers.exact import ExactDenoiser, GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from strategies.eds.guidance.sdedit import SDEdit
from strategies.eds.state_space.ddpm import DDPM
from tests.oracles import Recorded, denoiser, edit_request, request
from tests.strategies.test_gaussian_samplers import COMMON, ddpm_step

SEEDS = torch.arange(3)
GUIDES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
NULL = 10


class NoNoise:
    """Draws that leave the mean of every distribution."""

    def normal(self, *shape: int) -> Tensor:
        return torch.zeros(len(SEEDS), *shape, dtype=torch.float64)

    uniform = normal


@torch.no_grad()
def test_no_strength_returns_the_guide() -> None:
    nothing = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(edited(denoiser(), GUIDES, nothing, SEEDS, Recorded(SEEDS), repeats=3), GUIDES)


@torch.no_grad()
def test_full_strength_is_sampling_without_a_guide() -> None:
    """What is left of the guide at the highest level is abar^(1/2) = 0.8 % of it; DDPM told the same labels takes the same steps."""
    model, asked = denoiser(torch.float32), edit_request(8)
    free = DDPM(steps=50).sample(model, request(8, labels=asked.labels.tolist())).int()
    full, half = (SDEdit(strength=t0, steps=50).sample(model, asked).int() for t0 in (1.0, 0.5))
    assert float((full - free).abs().float().mean()) < 2
    assert float((half - free).abs().float().mean()) > 20


@pytest.mark.parametrize(("strength", "steps", "first"), [(0.5, 50, 480), (0.3, 10, 200), (0.5, 1000, 499)])
@torch.no_grad()
def test_equals_diffusers(strength: float, steps: int, first: int) -> None:
    """Noised by the scheduler at the first time kept, then its own steps, in its variance-preserving variables."""
    model, draws = denoiser(), Recorded(SEEDS)
    sigmas = SDEdit(strength=strength, steps=steps).levels(sigma_of(linear_alpha_bar()))
    if steps == 1000:  # the paper's chain: the levels are enough, its 500 steps would only take long
        assert len(sigmas) == 501 and sigmas[0] == sigma_of(linear_alpha_bar())[first]
        return
    ours = edited(model, GUIDES, sigmas, None, draws)
    scheduler = DDPMScheduler(**COMMON, clip_sample=True, variance_type="fixed_small")
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = linear_alpha_bar()
    scheduler.betas = 1 - scheduler.alphas_cumprod / torch.cat([torch.ones(1, dtype=torch.float64), scheduler.alphas_cumprod[:-1]])
    x, rest = scheduler.add_noise(GUIDES, draws.given[0], torch.tensor([first])), iter(draws.given[1:])
    for t in scheduler.timesteps[scheduler.timesteps <= first]:
        eps = model.net(x, t.double().expand(len(x)), torch.full((len(x),), NULL))
        x = ddpm_step(scheduler, eps, t, x, rest)
    assert torch.allclose(ours, x, atol=1e-5, rtol=0) and next(rest, None) is None


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("repeats", [1, 2])
@torch.no_grad()
def test_mean_of_gaussian_data(strength: float, repeats: int) -> None:
    """Data N(0, v): noise to sigma and the exact reverse chain leave v / (v + sigma^2) of the guide, at any number of steps."""
    v, guide = 0.25, 0.5 * GUIDES  # inside the clip
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), v)).double()
    sigmas = SDEdit(strength=strength, steps=20).levels(sigma_of(linear_alpha_bar()))
    left = v / (v + float(sigmas[0]) ** 2)
    mean = edited(model, guide, sigmas, None, NoNoise(), repeats)
    assert torch.allclose(mean, left**repeats * guide, atol=1e-12)


@torch.no_grad()
def test_spread_of_gaussian_data() -> None:
    """A thousand steps on data N(0, v) draw from the posterior given g + s n: mean v / (v + s^2) g, its own variance and that of n."""
    v, count = 0.04, 4000
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), v))
    sigmas = SDEdit(strength=0.1, steps=1000).levels(sigma_of(linear_alpha_bar()))
    s2 = float(sigmas[0]) ** 2
    guide = torch.full((count, 1, 1, 1), 0.4)
    out = edited(model, guide, sigmas, None, SeededDraws(torch.arange(count)))
    left = v / (v + s2)
    assert float(out.mean()) == pytest.approx(0.4 * left, abs=4 * (v / count) ** 0.5)
    assert float(out.var()) == pytest.approx(left**2 * s2 + v * s2 / (v + s2), rel=0.1)


@torch.no_grad()
def test_the_nearer_to_the_guide_the_weaker() -> None:
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25))
    asked = edit_request(20)
    images = [SDEdit(strength=t0, steps=20).sample(model, asked).float() for t0 in (0.1, 0.2, 0.3, 0.5, 0.8)]
    away = [float((image - asked.guides).square().mean()) for image in images]
    assert away == sorted(away) and away[0] < 0.2 * away[-1]


@pytest.mark.parametrize(("strength", "steps", "repeats", "evaluations"), [(0.3, 50, 1, 15), (0.5, 50, 2, 50), (1.0, 10, 1, 10)])
@torch.no_grad()
def test_price_is_the_share_of_the_chain(strength: float, steps: int, repeats: int, evaluations: int) -> None:
    model = denoiser(torch.float32)
    with counted(model) as calls:
        SDEdit(strength=strength, steps=steps, repeats=repeats).sample(model, edit_request(2))
    assert calls.per_image(2) == {"net": evaluations}


class Listening(ExactDenoiser):
    """Keeps what labels it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Tensor | None] = []

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        self.told.append(labels)
        return torch.zeros_like(x)


def test_the_network_is_told_the_class_of_the_guide() -> None:
    model, asked = Listening(), edit_request(2)
    SDEdit(strength=0.5, steps=4).sample(model, asked)
    assert len(model.told) == 2 and all(told is not None and torch.equal(told, asked.labels) for told in model.told)


def test_noise_belongs_to_the_image() -> None:
    """The draw is the request's next one, scaled by the level."""
    draws: Draws = SeededDraws(SEEDS)
    moved = noised(GUIDES.float(), torch.tensor(2.0), draws) - GUIDES.float()
    assert torch.allclose(moved, 2 * SeededDraws(SEEDS).normal(1, 8, 8), atol=1e-6)


def test_guides_are_brought_to_the_models_range() -> None:
    """With a denoiser of one point, the last step returns it; with strength next to nothing the guide shines through."""
    asked: EditRequest = edit_request(4)
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 1e6))  # trusts what it sees
    out = SDEdit(strength=0.001, steps=1000).sample(model, asked)
    assert int((out.int() - asked.guides.int()).abs().max()) <= 6  # noise of 0.01 is 1.3 grey levels
    assert float(to_model(asked.guides).min()) == -1


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: SDEdit(strength=0.0), "strength must lie above 0"),
        (lambda: SDEdit(strength=1.1), "not above 1"),
        (lambda: SDEdit(strength=0.01, steps=10), "keeps none of 10 steps"),
        (lambda: SDEdit(steps=0), "steps must be 1 or more"),
        (lambda: SDEdit(repeats=0), "repeats must be 1 or more"),
    ],
)
def test_bad_hyper_parameters_are_refused(build, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        build()
