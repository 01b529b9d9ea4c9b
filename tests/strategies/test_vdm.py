"""Continuing clips: closed forms of a Gaussian pair, the chain in the paper's variables, given frames kept, one call a step."""

import itertools

import pytest
import torch
from torch import Tensor

from bench.contract import VideoRequest
from bench.data.images import Pixels, to_model
from bench.diffusion.denoisers.exact import ExactDenoiser
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, leading_times
from bench.diffusion.loops import ancestral
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from bench.nets.ema import frozen, seeded
from bench.nets.space_time import SpaceTimeUNet
from bench.nets.unet import UNet
from strategies.eds.guidance.vdm import VDM
from strategies.eds.guidance.vdm.reconstruction import Reconstructing, begun
from tests.oracles import Recorded

RHO = 0.5
GRID = leading(sigma_of(linear_alpha_bar()), 1000)


class Pair(ExactDenoiser):
    """Exact denoiser of (a, b), unit normals of correlation RHO: two channels of one pixel."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        covariance = torch.tensor([[1, RHO], [RHO, 1]], dtype=x.dtype)
        gain = covariance @ torch.linalg.inv(covariance + sigma[0] ** 2 * torch.eye(2, dtype=x.dtype))
        return torch.einsum("ij,bjhw->bihw", gain, x)


def conditional(x: Tensor, a: Tensor, sigma: float) -> Tensor:
    """E[b | x_b, a]: the prior N(RHO a, 1 - RHO^2) of b, and an observation x_b of variance sigma^2. Given a, x_a says nothing of b."""
    prior, spread = RHO * a, 1 - RHO**2
    return prior + spread / (spread + sigma**2) * (x[:, 1:] - prior)


def spread_of_a(sigma: float) -> float:
    """Variance of a given x = (x_a, x_b), by the precision matrix of the posterior."""
    covariance = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)
    return float(torch.linalg.inv(torch.linalg.inv(covariance) + torch.eye(2, dtype=torch.float64) / sigma**2)[0, 0])


def pair_of(sigma: float, count: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, a = (torch.randn(count, c, 1, 1, generator=generator, dtype=torch.float64) for c in (2, 1))
    return x * (1 + sigma**2) ** 0.5, a, torch.full((count,), sigma, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.05, 0.7, 3.0, 50.0])
@torch.no_grad()
def test_true_spread_of_what_is_known_gives_the_exact_conditional_mean(sigma: float) -> None:
    """sigma^2 / weight is the variance that guidance believes in; with that of a given x the missing term is exact."""
    x, a, levels = pair_of(sigma)
    exact = Reconstructing(Pair(), a, sigma**2 / spread_of_a(sigma))(x, levels)
    assert torch.equal(exact[:, :1], a)
    assert torch.allclose(exact[:, 1:], conditional(x, a, sigma), atol=1e-11, rtol=0)


@torch.no_grad()
def test_weight_one_is_exact_at_high_signal_to_noise_and_only_there() -> None:
    """The error, in units of the missing term, vanishes as sigma^2; at sigma = 5 most of the term is missing."""
    errors = []
    for sigma in (0.01, 0.1, 5.0):
        x, a, levels = pair_of(sigma)
        right, plain = conditional(x, a, sigma), Pair()(x, levels)[:, 1:]
        errors.append(float((Reconstructing(Pair(), a, 1.0)(x, levels)[:, 1:] - right).norm() / (plain - right).norm()))
    assert errors[0] < 3e-4 and 50 < errors[1] / errors[0] < 150 and errors[2] > 0.9


@torch.no_grad()
def test_known_part_follows_its_exact_law_at_every_level() -> None:
    """Along the chain z^a - x^a is sigma n: its mean and variance, and its correlation from level to level, low / high."""
    count = 4000
    a = torch.full((count, 1, 1, 1), 0.3, dtype=torch.float64)
    for steps in (5, 50):
        sigmas = leading(sigma_of(linear_alpha_bar()), steps)
        draws = Recorded(torch.arange(count))
        before = begun(draws, (2, 1, 1), a, sigmas[0])
        low = len(sigmas) // 2
        after = ancestral(Reconstructing(Pair(), a, 1.0), before, sigmas[: low + 1], a[:, 0, 0, 0], draws, posterior_variance, clip=False)
        first, last = ((z[:, 0, 0, 0] - 0.3) / s for z, s in ((before, sigmas[0]), (after, sigmas[low])))
        for noise in (first, last):
            assert abs(float(noise.mean())) < 4 * count**-0.5 and abs(float(noise.var()) - 1) < 4 * (2 / count) ** 0.5
        assert abs(float((first * last).mean()) - float(sigmas[low] / sigmas[0])) < 4 * count**-0.5


@torch.no_grad()
def test_the_chain_of_a_pair_has_nearly_the_conditional_mean_which_replacement_misses() -> None:
    """Replacement knows a only through z^a, and at high noise not at all: its b follows a by less than RHO."""
    count = 4000
    a = torch.ones(count, 1, 1, 1, dtype=torch.float64)

    def mean(weight: float) -> float:
        draws = Recorded(torch.arange(count))
        x = begun(draws, (2, 1, 1), a, GRID[0])
        return float(
            ancestral(Reconstructing(Pair(), a, weight), x, GRID, a[:, 0, 0, 0], draws, posterior_variance, clip=False)[:, 1].mean()
        )

    replaced, guided = mean(0.0), mean(1.0)
    assert replaced < guided - 4 * count**-0.5 and abs(guided - RHO) < abs(replaced - RHO)


def clip_model(channels: int = 1, frames: int = 4, dtype: torch.dtype = torch.float64) -> EpsDenoiser:
    """A random but lively denoiser of clips."""
    with seeded(3):
        net = SpaceTimeUNet(UNet(channels, channels, 10, width=8), channels, frames)
        for p in net.parameters():
            if not p.any():
                torch.nn.init.normal_(p, std=0.1)
    model = EpsDenoiser(net.to(dtype))
    frozen(model)
    return model


def asked(count: int, given: Tensor, frames: int, draws: object = None) -> VideoRequest:
    seeds = torch.arange(count)
    return VideoRequest(
        seeds=seeds,
        labels=seeds % 10,
        shape=tuple(given.shape[2:]),  # type: ignore[arg-type]
        device=torch.device("cpu"),
        draws=lambda: draws or SeededDraws(seeds),  # type: ignore[arg-type, return-value]
        frames=frames,
        given=given,
    )


def frames_given(count: int, given: int, channels: int = 1, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, given, channels, side, side), generator=generator).to(torch.uint8)


def reference(model: EpsDenoiser, weight: float, steps: int, known: Tensor, labels: Tensor, noises: list[Tensor]) -> Tensor:
    """The replacement method and equation 7 in the paper's own z = alpha x + sigma n, z^a drawn anew from q(z_s^a | z_t^a, x^a)."""
    abars = [*(float(linear_alpha_bar()[t]) for t in leading_times(steps, 1000)), 1.0]
    a, z, rest = known.shape[1], noises[0], iter(noises[1:])
    z = torch.cat([abars[0] ** 0.5 * known + (1 - abars[0]) ** 0.5 * z[:, :a], z[:, a:]], dim=1)
    for time, (abar, lower) in zip(leading_times(steps, 1000).tolist(), itertools.pairwise(abars), strict=True):
        with torch.enable_grad():
            leaf = z[:, a:].clone().requires_grad_()
            whole = torch.cat([z[:, :a], leaf], dim=1)
            guess = (whole - (1 - abar) ** 0.5 * model.net(whole, torch.full((len(z),), float(time), dtype=z.dtype), labels)) / abar**0.5
            (slope,) = torch.autograd.grad((known - guess[:, :a]).square().sum(), leaf)
        rest_guess = guess[:, a:].detach() - weight * abar**0.5 / 2 * slope
        x0 = torch.cat([known, rest_guess.clamp(-1, 1)], dim=1)
        beta = 1 - abar / lower
        z = (lower**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - lower) * z) / (1 - abar)
        if lower < 1:
            z = z + (beta * (1 - lower) / (1 - abar)) ** 0.5 * next(rest)
    return z


@pytest.mark.parametrize("weight", [0.0, 2.0])
@torch.no_grad()
def test_chain_is_the_papers(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pixels, "decode", lambda _space, x, _shape: x)
    model, given, draws = clip_model(), frames_given(3, 2), Recorded(torch.arange(3))
    request = asked(3, given, 4, draws)
    ours = VDM(guidance_weight=weight, steps=4).sample(model, request).flatten(1, 2)
    theirs = reference(model, weight, 4, to_model(given).double().flatten(1, 2), request.labels, draws.given)
    assert torch.allclose(ours, theirs, atol=1e-6, rtol=0)  # the given frames are float32


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 10)])
@torch.no_grad()
def test_given_frames_come_back_as_they_were_and_lead_the_others(channels: int, side: int) -> None:
    model, given = clip_model(channels, dtype=torch.float32), frames_given(3, 2, channels, side)
    others = frames_given(6, 2, channels, side)[3:]
    for weight in (0.0, 2.0):
        strategy = VDM(guidance_weight=weight, steps=3)
        made, led = (strategy.sample(model, asked(3, shown, 4)) for shown in (given, others))
        assert torch.equal(made[:, :2], given) and torch.equal(led[:, :2], others)
        assert not torch.equal(made[:, 2:], led[:, 2:])


@torch.no_grad()
def test_guidance_is_the_gradient_of_the_call_that_is_used_and_of_no_other() -> None:
    model, given = clip_model(dtype=torch.float32), frames_given(2, 2)
    images = {}
    for weight in (0.0, 2.0):
        with counted(model, with_levels=True) as calls:
            images[weight] = VDM(guidance_weight=weight, steps=5).sample(model, asked(2, given, 4))
        assert dict(calls.rows) == {"net": 10} and calls.steps() == 5
    assert not torch.equal(images[0.0], images[2.0])


@torch.no_grad()
def test_weight_matters_nowhere_but_in_the_unknown_frames() -> None:
    model, known = clip_model(), to_model(frames_given(2, 2)).double().flatten(1, 2)
    x, levels = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    plain, weak, strong = (Reconstructing(model, known, weight)(x, levels) for weight in (0.0, 1.0, 2.0))
    assert torch.equal(plain[:, :2], known) and torch.equal(strong[:, :2], known) and not strong.requires_grad
    assert torch.allclose(strong - plain, 2 * (weak - plain), atol=1e-12) and float((weak - plain).abs().max()) > 1e-6
    assert torch.allclose(plain[:, 2:], model(x, levels)[:, 2:])


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="guidance_weight"):
        VDM(guidance_weight=-1.0)
    with pytest.raises(ValueError, match="steps"):
        VDM(steps=0)
