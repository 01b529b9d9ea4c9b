"""DDGAN: the chain against Gaussian conditioning, the sampler against closed forms, the game against its definitions."""

import math

import pytest
import torch
from torch import Tensor, nn

from bench.contract import Kit
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.loops import ancestral, start
from bench.nets.adversarial import PairCritic
from bench.nets.ema import seeded
from bench.training.adversarial import train_game
from bench.training.train import train
from strategies.eps.mixing.ddgan import DDGAN
from strategies.eps.mixing.ddgan.chain import Drawing, LatentGenerator, forward_pair, large_steps, reverse_draw, unit
from strategies.eps.mixing.ddgan.game import denoising_game, drawn_step, generated, regression
from tests.impulses import Impulses
from tests.oracles import kit_of, lively_unet


def betas(steps: int) -> list[float]:
    """Appendix A: beta_t = 1 - exp(-beta_min / T - (beta_max - beta_min) (2t - 1) / (2 T^2)), t = 1..T."""
    return [1 - math.exp(-0.1 / steps - 19.9 * (2 * t - 1) / (2 * steps**2)) for t in range(1, steps + 1)]


def chain_moments(steps: int, x0: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (y_1, ..., y_T) given y_0 = x0, y_t = sqrt(1 - beta_t) y_{t-1} + sqrt(beta_t) n_t, by its matrices."""
    carry, noise = torch.eye(steps, dtype=torch.float64), torch.zeros(steps, steps, dtype=torch.float64)
    first = torch.zeros(steps, dtype=torch.float64)
    for t, beta in enumerate(betas(steps)):
        noise[t, t] = beta**0.5
        if t:
            carry[t, t - 1] = -((1 - beta) ** 0.5)
        else:
            first[0] = (1 - beta) ** 0.5 * x0
    solve = torch.linalg.inv(carry)  # carry y = first + noise n
    return solve @ first, solve @ noise @ noise.T @ solve.T


def column(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_posterior_is_the_conditional_of_the_chains_joint_normal(steps: int) -> None:
    x0, y = 0.37, -1.3
    mean, cov = chain_moments(steps, x0)
    sigmas = large_steps(steps).flip(0)  # ascending, sigmas[t] belongs to y_t
    for t in range(2, steps + 1):
        i, j = t - 2, t - 1
        wanted_mean = mean[i] + cov[i, j] / cov[j, j] * (y - mean[j])
        wanted_sd = (cov[i, i] - cov[i, j] ** 2 / cov[j, j]).sqrt()
        high, low = column(float(sigmas[t])), column(float(sigmas[t - 1]))
        x_high = column(y) * (1 + high.square()).sqrt()
        still, moved = (unit(reverse_draw(x_high, column(x0), high, low, column(n)), low) for n in (0.0, 1.0))
        assert float(still) == pytest.approx(float(wanted_mean), abs=1e-10)
        assert float(moved - still) == pytest.approx(float(wanted_sd), abs=1e-10)


@pytest.mark.parametrize("steps", [1, 4])
def test_pairs_have_the_chains_moments(steps: int) -> None:
    """Coefficients of x0 and of the two noises, each alone, give the marginals and the covariance of neighbours."""
    mean, cov = chain_moments(steps, 1.0)
    sigmas = large_steps(steps).flip(0)
    zero, one = column(0.0), column(1.0)
    for t in range(1, steps + 1):
        high, low = column(float(sigmas[t])), column(float(sigmas[t - 1]))
        signal, first, second = (
            [unit(x, s).item() for x, s in zip(forward_pair(a, high, low, b, c), (low, high), strict=True)]
            for a, b, c in ((one, zero, zero), (zero, one, zero), (zero, zero, one))
        )
        assert signal[1] == pytest.approx(float(mean[t - 1])) and first[1] ** 2 + second[1] ** 2 == pytest.approx(float(cov[t - 1, t - 1]))
        if t > 1:
            assert signal[0] == pytest.approx(float(mean[t - 2])) and second[0] == 0
            assert first[0] * first[1] == pytest.approx(float(cov[t - 2, t - 1]))
        else:
            assert (signal[0], first[0], second[0]) == (1, 0, 0)  # the lowest state is the image itself


class ExactGenerator(nn.Module):
    """x0 drawn from p(x0 | x) of data N(mean, variance), by as many latents as there are pixels."""

    def __init__(self, mean: float, variance: float) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        assert z is not None
        noise = sigma[:, None, None, None].square()
        gain = self.variance / (self.variance + noise)
        return self.mean + gain * (x - self.mean) + (gain * noise).sqrt() * z.reshape(x.shape)


@pytest.mark.parametrize(("variance", "steps", "within"), [(1.0, 4, 1e-10), (1.0, 1, 1e-10), (0.25, 2, 1e-4)])
@torch.no_grad()
def test_exact_generator_reproduces_the_normal(variance: float, steps: int, within: float) -> None:
    """The prior is that of unit-normal data, for which all is exact; others feel the last 1 / sigma_T^2 of it."""
    draws, sigmas = Impulses(2 * steps), large_steps(steps)
    generator = Drawing(ExactGenerator(0.0, variance), draws, latent=1)
    x = start(draws, (1, 1, 1), sigmas[0]).double()
    out = ancestral(generator, x, sigmas, torch.zeros(draws.count), draws, posterior_variance, clip=False)
    assert float(draws.variance(out)) == pytest.approx(variance, abs=within)


def test_each_step_draws_a_latent_of_its_own() -> None:
    """A generator that is z: its last image is the last latent, and T steps draw the start, T latents, T - 1 noises."""
    drawn: list[Tensor] = []

    class Counting:
        def normal(self, *shape: int) -> Tensor:
            drawn.append(torch.full((2, *shape), float(len(drawn))))
            return drawn[-1]

        def uniform(self, *shape: int) -> Tensor:
            raise AssertionError(shape)

    class Echo(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor, labels: Tensor, z: Tensor) -> Tensor:
            return z.reshape(x.shape)

    draws, sigmas = Counting(), large_steps(3)
    x = start(draws, (1, 2, 2), sigmas[0])
    out = ancestral(Drawing(Echo(), draws, latent=4), x, sigmas, torch.zeros(2), draws, posterior_variance, clip=False)
    assert len(drawn) == 6 and bool((out == 5).all())


class PixelGenerator(nn.Module):
    """One small network for every pixel, each with a latent of its own: 64 one-dimensional problems an image."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.latent = 64
        self.register_buffer("sigmas", torch.ones(1))
        self.net = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        assert z is not None
        s = sigma.to(x.dtype)[:, None, None, None].expand_as(x)
        return torch.tanh(self.net(torch.stack([unit(x, s), s.log() / 3, z.reshape(x.shape)], dim=-1))[..., 0])


class PixelCritic(nn.Module):
    """Logits of single pixels."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))

    def forward(self, low: Tensor, high: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        time = (t / 1000)[:, None, None, None].expand_as(low)
        return self.net(torch.stack([3 * low, high, time], dim=-1)).flatten()


def two_valued(rng: torch.Generator) -> Kit:
    """A kit of images whose pixels are -0.5 or 0.5, evenly and independently."""
    images = torch.where(torch.rand(512, 1, 8, 8, generator=rng) < 0.5, 64, 191).byte()
    return kit_of(images, torch.zeros(512, dtype=torch.long), train_batch=8)


def test_generator_learns_both_modes_of_a_large_step() -> None:
    """Pixels are -0.5 or 0.5; at T = 2 the posterior of the last step is two points of weight p = 1 / (1 + exp(-x / sigma^2))."""
    rng, grid = torch.Generator().manual_seed(0), large_steps(2)
    kit = two_valued(rng)
    with seeded(0):
        generator, critic = PixelGenerator(), PixelCritic()
    game = denoising_game(generator, critic, grid, gamma=0.05, lazy=15, generator_lr=2e-3, critic_lr=4e-3)  # type: ignore[arg-type]
    trained = train_game(generator, game, kit, images_seen=8 * 900, what="toy")
    sigma = float(grid[1])
    for x in (-2 * sigma, 0.0, 2 * sigma):
        many = torch.full((200, 1, 8, 8), x)
        with torch.no_grad():
            x0 = trained(many, torch.full((200,), sigma), None, torch.randn(200, 64, generator=rng))
        near = (x0.abs() - 0.5).abs() < 0.2  # the mean, a regression's answer, has |x0| < 0.15: no pixel would be near a mode
        assert float(near.float().mean()) > 0.6, x
        assert float((x0 > 0).float().mean()) == pytest.approx(1 / (1 + math.exp(-x / sigma**2)), abs=0.12), x


def test_regression_learns_the_mean_of_the_modes() -> None:
    """The same pixels of -0.5 or 0.5: E[x0 | x] = tanh(x / (2 sigma^2)) / 2 whatever the latent, which is neither mode."""
    rng, grid = torch.Generator().manual_seed(0), large_steps(2)
    kit = two_valued(rng)
    with seeded(0):
        generator = PixelGenerator()
    trained = train(generator, regression(generator, grid), kit, images_seen=8 * 400, what="toy", lr=5e-3)  # type: ignore[arg-type]
    sigma = float(grid[1])
    for x in (-2 * sigma, 0.0, sigma, 2 * sigma):
        with torch.no_grad():
            x0 = trained(torch.full((20, 1, 8, 8), x), torch.full((20,), sigma), None, torch.randn(20, 64, generator=rng))
        assert float(x0.mean()) == pytest.approx(math.tanh(x / (2 * sigma**2)) / 2, abs=0.03), x
        assert float(x0.std()) < 0.05, x


def test_critic_and_generator_hear_all_that_they_are_told() -> None:
    with seeded(0):
        generator, critic = LatentGenerator(lively_unet(), 16, 3), PairCritic(1, 8, 10, 8)
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(6, 1, 8, 8, generator=rng), torch.arange(6)
    step = drawn_step(images, large_steps(4), rng)
    base = critic(images, step.x_high, step.t, labels)
    assert not torch.isclose(critic(images[:4], step.x_high[:4], step.t[:4], labels[:4]), base[:4], atol=1e-6).all()  # the group's spread
    for changed in (
        critic(images + 0.1, step.x_high, step.t, labels),
        critic(images, step.x_high + 0.1, step.t, labels),
        critic(images, step.x_high, step.t - 250, labels),
        critic(images, step.x_high, step.t, labels + 1),
    ):
        assert changed.shape == (6,) and not torch.isclose(changed, base, atol=1e-6).any()
    sigma, z = step.high.flatten().double(), torch.randn(6, 16, generator=rng)
    generator.requires_grad_(False)
    x0 = generator(step.x_high, sigma, labels, z)
    assert float(x0.abs().max()) <= 1
    for changed in (generator(step.x_high, sigma, labels + 1, z), generator(step.x_high, sigma, labels, -z)):
        assert not torch.isclose(changed, x0, atol=1e-6).flatten(1).all(1).any()


def test_steps_are_drawn_from_the_whole_grid_and_told_apart() -> None:
    grid, rng = large_steps(4), torch.Generator().manual_seed(0)
    step = drawn_step(torch.zeros(400, 1, 8, 8), grid, rng)
    for k in range(4):
        chosen = step.t == 1000 * (4 - k) / 4
        assert 60 < int(chosen.sum()) < 140
        assert torch.allclose(step.high[chosen].double(), grid[k]) and torch.allclose(step.low[chosen].double(), grid[k + 1])
        assert float(step.x_high[chosen].std()) == pytest.approx(float(grid[k]), rel=0.1)
    last = step.t == 250
    made = generated(LatentGenerator(lively_unet(), 16, 3), step, torch.zeros(400, dtype=torch.long), rng)
    assert float(made[last].abs().max()) <= 1  # the last step ends in the generator's own x0


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"latent": 0},
        {"layers": 0},
        {"lazy": 0},
        {"batch": 0},
        {"share": 0.0},
        {"regressed": 0.0},
        {"regression_batch": 0},
        {"lead": -0.1},
        {"gamma": -0.1},
        {"generator_lr": 0.0},
        {"critic_lr": -1.0},
    ],
)
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        DDGAN(**fields)  # type: ignore[arg-type]
