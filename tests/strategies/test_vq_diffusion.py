"""Mask-and-replace diffusion against explicit transition matrices and diffusers; guidance, truncation, skipping; the codebook."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bench.diffusion.categorical import log_onehot
from bench.meters.calls import counted
from bench.nets.codebook import CodeDecoder
from bench.nets.ema import seeded
from bench.nets.unet import UNet
from strategies.eds.state_space.vq_diffusion import VQDiffusion
from strategies.eds.state_space.vq_diffusion.mask_replace import (
    KEPT,
    MASKED,
    Level,
    extrapolated,
    linear_levels,
    log_marginal,
    log_posterior,
    prior_divergence,
    step_divergence,
    truncated,
)
from strategies.eds.state_space.vq_diffusion.tokens import TokenModel
from tests.oracles import Recorded, request

K, T = 5, 6
NOISY = ((0.9, 0.05), (0.05, 0.6))  # replaces many codes, which the official schedule hardly does
VANISHING = ((0.8, 1e-12), (0.1, 1 - 2e-12))  # forgets x0 and ends in the prior


def kernels(kept: tuple[float, float], masked: tuple[float, float], k: int, steps: int) -> list[Tensor]:
    """Q_t (K + 1, K + 1) of each step, rows x_{t-1}, from a_t, b_t, g_t (eq. 7)."""
    abar = [1.0, *torch.linspace(*kept, steps, dtype=torch.float64).tolist()]
    gbar = [0.0, *torch.linspace(*masked, steps, dtype=torch.float64).tolist()]
    found = []
    for t in range(1, steps + 1):
        a, g = abar[t] / abar[t - 1], 1 - (1 - gbar[t]) / (1 - gbar[t - 1])
        q = torch.full((k + 1, k + 1), (1 - a - g) / k, dtype=torch.float64) + a * torch.eye(k + 1, dtype=torch.float64)
        q[:, k] = g
        q[k] = torch.eye(k + 1)[k]
        found.append(q)
    return found


def product(matrices: list[Tensor], k: int) -> Tensor:
    """What several steps do together."""
    total = torch.eye(k + 1, dtype=torch.float64)
    for q in matrices:
        total = total @ q
    return total


def at(levels: Level, t: int) -> Level:
    return Level(keep=levels.keep[t], masked=levels.masked[t])


def bayes(steps: list[Tensor], p0: Tensor, high: int, low: int) -> Tensor:
    """p(x_low | x_high) (K + 1 of x_high, K + 1) with x0 ~ p0, (K,) or (K + 1 of x_high, K): by enumeration."""
    k = p0.shape[-1]
    to_low, onwards = product(steps[:low], k)[:k], product(steps[low:high], k)
    joint = to_low[:, :, None] * onwards[None]  # (x0, x_low, x_high)
    exact = joint / joint.sum(1, keepdim=True)
    return torch.einsum("hz,zlh->hl", p0.expand(k + 1, k), exact)


@pytest.mark.parametrize("ends", [NOISY, (KEPT, MASKED)], ids=["noisy", "official"])
def test_products_of_the_transition_matrices_are_the_marginals(ends: tuple[tuple[float, float], tuple[float, float]]) -> None:
    levels, steps = linear_levels(T, *ends), kernels(*ends, K, T)
    for q in steps:
        assert torch.allclose(q.sum(1), torch.ones(K + 1, dtype=torch.float64), atol=1e-12) and bool((q >= 0).all())
    for t in range(T + 1):
        ours = log_marginal(log_onehot(torch.arange(K), K), at(levels, t)).exp()
        assert torch.allclose(ours, product(steps[:t], K)[:K], rtol=0, atol=1e-9)


@pytest.mark.parametrize("ends", [NOISY, (KEPT, MASKED)], ids=["noisy", "official"])
def test_posterior_equals_bayes_also_over_skipped_steps(ends: tuple[tuple[float, float], tuple[float, float]]) -> None:
    levels, steps = linear_levels(T, *ends), kernels(*ends, K, T)
    p0 = torch.tensor([0.4, 0.05, 0.25, 0.1, 0.2], dtype=torch.float64)
    certain = torch.eye(K, dtype=torch.float64).clamp_min(1e-30)
    for high, low in itertools.combinations(range(T, -1, -1), 2):
        for p in (p0, *certain):
            ours = log_posterior(p.log().expand(K + 1, K), torch.arange(K + 1), at(levels, high), at(levels, low)).exp()
            assert torch.allclose(ours, bayes(steps, p, high, low), rtol=0, atol=2e-8), (high, low)


def test_step_equals_diffusers() -> None:
    from diffusers import VQDiffusionScheduler

    scheduler, levels = VQDiffusionScheduler(num_vec_classes=K + 1, num_train_timesteps=100), linear_levels(100)
    posterior = scheduler.q_posterior  # type: ignore[attr-defined]
    x = torch.tensor([[0, 3, K, 4, K, 1]])
    log_x0 = torch.randn(1, 6, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(-1)
    for t in (1, 2, 50, 98, 99):  # diffusers counts from 0
        theirs = posterior(log_x0.movedim(-1, 1).float(), x, torch.tensor(t)).movedim(1, -1).double()
        ours = log_posterior(log_x0, x, at(levels, t + 1), at(levels, t))
        possible = ours > math.log(1e-20)
        assert bool((theirs[~possible] < math.log(1e-20)).all())
        assert float((theirs - ours)[possible].abs().max()) < 1e-5, t
    last = log_posterior(log_x0, x, at(levels, 1), at(levels, 0))
    assert torch.allclose(last[..., :K], log_x0, atol=1e-5)  # where diffusers takes p(x0 | x1) itself
    assert float(last[..., K].max()) < -60


def test_truncation_keeps_the_fewest_likeliest() -> None:
    p = torch.tensor([0.1, 0.4, 0.2, 0.25, 0.05], dtype=torch.float64)
    for mass, kept in ((0.3, [1]), (0.5, [1, 3]), (0.86, [0, 1, 2, 3]), (0.97, [0, 1, 2, 3, 4])):
        wanted = torch.zeros(5, dtype=torch.float64)
        wanted[kept] = p[kept] / p[kept].sum()
        assert torch.allclose(truncated(p.log(), mass).exp(), wanted, atol=1e-12), mass
    assert truncated(p.log(), 1.0).equal(p.log())


def test_guidance_tilts_the_conditional_distribution() -> None:
    conditional, free = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3]], dtype=torch.float64)
    tilted = conditional**2.5 / free**1.5
    assert torch.allclose(extrapolated(conditional.log(), free.log(), 2.5).exp(), tilted / tilted.sum(), atol=1e-12)
    assert torch.allclose(extrapolated(conditional.log(), free.log(), 0.0).exp(), free, atol=1e-12)


def lively(codes: int = K, chain: int = T) -> TokenModel:
    """A random model of 4x4 codes whose zero-initialised ends are not zero."""
    with seeded(5):
        model = TokenModel(UNet(codes + 1, codes, 10, width=8), CodeDecoder(1, codes, 8), codes, chain)
        for p in model.net.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return model.eval()


@torch.no_grad()
def test_scale_one_is_unguided_at_one_evaluation() -> None:
    model = lively()
    x, t, labels = torch.randint(K + 1, (3, 4, 4), generator=torch.Generator().manual_seed(0)), torch.tensor([6, 3, 1]), torch.arange(3)
    assert model.guided(x, t, labels, 1.0).equal(model.log_x0(x, t, labels))
    assert torch.allclose(model.guided(x, t, labels, 1 + 1e-9), model.log_x0(x, t, labels), atol=1e-6)
    assert torch.allclose(model.guided(x, t, labels, 0.0), model.log_x0(x, t, torch.full((3,), 10)), atol=1e-5)
    for scale, rows in ((1.0, 1), (2.0, 2)):
        with counted(model) as calls:
            VQDiffusion(codes=K, chain=T, steps=3, scale=scale).sample(model, request(2))
        assert calls.per_image(2) == {"decoder": 1.0, "net": 3.0 * rows}


@torch.no_grad()
@pytest.mark.parametrize("times", [(6, 5, 4, 3, 2, 1, 0), (6, 4, 2, 0), (6, 3, 0)], ids=["all steps", "every second", "every third"])
def test_sampling_equals_the_matrices_fed_with_the_same_numbers(times: tuple[int, ...]) -> None:
    model, steps = lively(), kernels(KEPT, MASKED, K, T)
    draws = Recorded(torch.arange(3))
    images = VQDiffusion(codes=K, chain=T, steps=len(times) - 1, truncation=1.0).sample(model, request(3, draws=draws))
    prior = torch.tensor([(1 - MASKED[1]) / K] * K + [MASKED[1]], dtype=torch.float64)
    x = torch.searchsorted(prior.cumsum(0), draws.given[0], right=True)
    for (high, low), uniform in zip(itertools.pairwise(times), draws.given[1:], strict=True):
        p0 = model.log_x0(x, torch.full((3,), high), torch.arange(3)).exp().reshape(-1, K)
        rows = torch.stack([bayes(steps, p, high, low)[state] for p, state in zip(p0, x.flatten().tolist(), strict=True)])
        x = (uniform.reshape(-1, 1) >= rows.cumsum(-1)).sum(-1).clamp(max=K).reshape(x.shape)
    assert images.equal(((model.decoder(x) + 1) * 127.5).round().clamp(0, 255).byte())


@torch.no_grad()
def test_terms_of_the_loss_equal_the_matrices() -> None:
    model, steps, generator = lively(), kernels(KEPT, MASKED, K, T), torch.Generator().manual_seed(0)
    x0, uniform = torch.randint(K, (3, 4, 4), generator=generator), torch.rand(3, 4, 4, generator=generator)
    t, labels = torch.tensor([6, 3, 1]), torch.arange(3)
    bound, auxiliary = model.terms(x0, t, uniform, labels)
    for i, time in enumerate(t.tolist()):
        x = (uniform[i][..., None] >= product(steps[:time], K)[x0[i]].cumsum(-1)).sum(-1)
        p0 = model.log_x0(x[None], t[i : i + 1], labels[i : i + 1])[0].exp()
        for place in itertools.product(range(4), repeat=2):
            truth, state = x0[i][place], x[place]
            exact = bayes(steps, torch.eye(K, dtype=torch.float64)[truth], time, time - 1)[state]
            model_p = bayes(steps, p0[place], time, time - 1)[state]
            wanted = float((torch.special.xlogy(exact, exact) - torch.special.xlogy(exact, model_p)).sum())
            assert float(bound[i][place]) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
            assert float(auxiliary[i][place]) == pytest.approx(-float(p0[place][truth].log()), rel=1e-4)


def enumerated(p0: Tensor, ends: tuple[tuple[float, float], tuple[float, float]], steps: int, knowing: bool) -> tuple[Tensor, Tensor]:
    """(bound, exact -log p) (K, K) in nats of all pairs of tokens, under p(x0 | x_t) that is each token's true one or is uniform."""
    k, levels = len(p0), linear_levels(steps, *ends)
    forward = [product(kernels(*ends, k, steps)[:t], k)[:k] for t in range(steps + 1)]
    states = torch.cartesian_prod(torch.arange(k + 1), torch.arange(k + 1))  # (N, 2)
    data = torch.cartesian_prod(torch.arange(k), torch.arange(k))
    bound = prior_divergence(data, at(levels, steps), k).sum(1)
    last = torch.tensor([float(1 - levels.masked[-1]) / k] * k + [float(levels.masked[-1])], dtype=torch.float64)
    p = (last[:, None] * last).flatten()
    for t in range(steps, 0, -1):
        likely = forward[t][:, states[:, 0]][:, None] * forward[t][:, states[:, 1]] * p0[..., None]  # (K, K, N)
        joint = likely / likely.sum((0, 1))
        truth = torch.stack([joint.sum(1).T, joint.sum(0).T], dim=1)  # (N, 2, K)
        log_x0 = truth.log() if knowing else torch.full_like(truth, -math.log(k))
        high, low = at(levels, t), at(levels, t - 1)
        for i, x0 in enumerate(data):
            chance = forward[t][x0[0], states[:, 0]] * forward[t][x0[1], states[:, 1]]
            bound[i] += (chance * step_divergence(log_x0, x0.expand(len(states), 2), states, high, low).sum(1)).sum()
        each = log_posterior(log_x0, states, high, low).exp()
        p = p @ (each[:, 0, :, None] * each[:, 1, None, :]).reshape(len(states), -1)
    return bound.reshape(k, k), -p.reshape(k + 1, k + 1)[:k, :k].log()


def test_bound_is_tight_for_the_true_posterior_of_independent_tokens() -> None:
    p0 = torch.outer(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64))
    bound, exact = enumerated(p0, VANISHING, 4, knowing=True)
    assert torch.allclose(exact, -p0.log(), atol=1e-7) and torch.allclose(bound, exact, atol=1e-7)


@pytest.mark.parametrize("ends", [NOISY, VANISHING], ids=["noisy", "vanishing"])
@pytest.mark.parametrize("knowing", [True, False])
def test_bound_lies_above_the_likelihood(knowing: bool, ends: tuple[tuple[float, float], tuple[float, float]]) -> None:
    p0 = torch.tensor([[0.3, 0.02, 0.05], [0.03, 0.25, 0.02], [0.01, 0.02, 0.3]], dtype=torch.float64)  # tokens that go together
    bound, exact = enumerated(p0, ends, 4, knowing)
    assert bool((bound >= exact - 1e-9).all()) and float((p0 * (bound - exact)).sum()) > 1e-3


@pytest.mark.parametrize(
    "fields",
    [
        {"codes": 1},
        {"chain": 1, "steps": 1},
        {"steps": 101},
        {"steps": 0},
        {"auxiliary": -1.0},
        {"truncation": 0.0},
        {"truncation": 1.1},
        {"scale": -1.0},
    ],
)
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        VQDiffusion(**fields)  # type: ignore[arg-type]
