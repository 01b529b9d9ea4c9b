"""DiffFlow: the path's likelihood ratio by joint normals, plain diffusion without drift, and a bound that is one."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from bench.contract import Denoiser
from bench.data.images import to_uint8
from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.loops import ancestral, start
from bench.testing.subject import tiny_assets
from strategies.eps.mixing.diff_flow import DiffFlow, path_loss, untrained
from strategies.eps.mixing.diff_flow.paths import Drift, TwoWayChain, best_variances, path_nats, path_of
from tests.oracles import Recorded, lively_unet, request

LABELS = torch.zeros(1, dtype=torch.long)


class Linear(nn.Module):
    """A drift a x + b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return self.a * x + self.b


def gaussian_chain(sigmas: Tensor, variances: Tensor, drift: nn.Module, variance: float = 0.25, mean: float = 0.1) -> TwoWayChain:
    exact = GaussianDenoiser(*(torch.full((1, 1, 1), value, dtype=torch.float64) for value in (mean, variance)))
    return TwoWayChain(exact, drift, sigmas, variances)


def joint(first_mean: float, first_variance: float, steps: list[tuple[float, float, float]]) -> MultivariateNormal:
    """The joint normal of a chain u_1 ~ N(first), u_{k+1} = a u_k + b + sqrt(v) n, with (a, b, v) for each step."""
    size = len(steps) + 1
    link, noise, shift = (
        torch.eye(size, dtype=torch.float64),
        torch.zeros(size, dtype=torch.float64),
        torch.zeros(size, dtype=torch.float64),
    )
    noise[0], shift[0] = first_variance, first_mean
    for k, (a, b, v) in enumerate(steps, start=1):
        link[k, k - 1], shift[k], noise[k] = -a, b, v
    inverse = torch.linalg.inv(link)
    return MultivariateNormal(inverse @ shift, inverse @ torch.diag(noise) @ inverse.T)


def linear_step_back(high: float, low: float, variance: float, mean: float) -> tuple[float, float]:
    """(a, b) of m(x) = a x + b, from the posterior mean at two points."""

    def at(x: float) -> float:
        guess = mean + variance / (variance + high**2) * (x - mean)
        return guess + low**2 / high**2 * (x - guess)

    return at(1.0) - at(0.0), at(0.0)


def test_ratio_is_that_of_the_two_joint_densities() -> None:
    sigmas, variances = torch.tensor([0.0, 0.4, 1.1, 3.0], dtype=torch.float64), torch.tensor([0.03, 0.2, 1.5], dtype=torch.float64)
    a, b, grid = -0.3, 0.2, sigmas.tolist()
    chain = gaussian_chain(sigmas, variances, Linear(a, b))
    x0, noises = (
        torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64),
        torch.tensor([0.5, -1.2, 0.3], dtype=torch.float64).reshape(3, 1, 1, 1, 1),
    )
    found = path_nats(path_of(chain, x0, LABELS, noises), sigmas, variances)
    states = [0.7]
    lengths = [(high**2 - low**2) ** 0.5 for low, high in itertools.pairwise(grid)]
    for s, n in zip(lengths, noises.flatten().tolist(), strict=True):
        states.append(states[-1] + s * (a * states[-1] + b + n))
    onwards = [(1 + s * a, s * b, s**2) for s in lengths]
    forward = joint(onwards[0][0] * 0.7 + onwards[0][1], onwards[0][2], onwards[1:])
    back = [(*linear_step_back(grid[k], grid[k - 1], 0.25, 0.1), float(variances[k - 1])) for k in (3, 2, 1)]
    backward = joint(0.0, 1 + grid[3] ** 2, back)
    wanted = forward.log_prob(torch.tensor(states[1:], dtype=torch.float64)) - backward.log_prob(
        torch.tensor(states[::-1], dtype=torch.float64)
    )
    assert float(found) == pytest.approx(float(wanted), abs=1e-9)


def test_without_drift_the_path_is_the_plain_chain() -> None:
    """x_i = x0 + the sum of the steps' noises; the strategy's own networks begin there."""
    strategy = DiffFlow(steps=4)
    chain = untrained(tiny_assets().kit_with(strategy.card.assets, 0), strategy.sigmas())
    x0 = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noises = torch.randn(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    seen: list[tuple[Tensor, Tensor]] = []
    chain.denoiser.register_forward_hook(lambda _net, args, _out: seen.append(args[:2]))
    labels = torch.arange(3)
    path = path_of(chain, x0, labels, noises)
    widths = strategy.sigmas().square().diff().sqrt().float()[:, None, None, None, None]
    states = x0 + (widths * noises).cumsum(0)
    for k, (x, sigma) in enumerate(seen):
        assert torch.allclose(x, states[k], rtol=1e-5, atol=1e-5) and bool((sigma == strategy.sigmas()[k + 1]).all())
    assert torch.allclose(path.end, states[-1].double().square().flatten(1).sum(1)) and len(seen) == 4


@torch.no_grad()
def test_sampling_is_ddpms_with_the_chains_variances() -> None:
    """With the posterior variances it is the ancestral chain itself, and the drift is not asked."""
    strategy = DiffFlow(steps=5)
    sigmas = strategy.sigmas()
    small = torch.tensor([1.0, *(posterior_variance(h, s) for s, h in itertools.pairwise(sigmas[1:].tolist()))], dtype=torch.float64)
    denoiser = EpsDenoiser(lively_unet().double())
    chain = TwoWayChain(denoiser, Linear(float("nan"), 0.0), sigmas, small)
    ours = strategy.sample(chain, request(3, draws=Recorded(torch.arange(3))))
    draws, down = Recorded(torch.arange(3)), sigmas.flip(0)
    x = start(draws, (1, 8, 8), down[0])
    theirs = ancestral(denoiser, x, down, torch.arange(3), draws, posterior_variance, clip=False)
    assert torch.equal(ours, to_uint8(theirs, (1, 8, 8)))


@pytest.mark.parametrize("drift", [Linear(0.0, 0.0), Linear(0.15, -0.1)], ids=["plain", "drifting"])
def test_bound_is_never_below_the_exact_likelihood(drift: nn.Module) -> None:
    """The model of a linear chain back is a normal, found by following mean and variance; the bound's gap is a divergence."""
    sigmas = torch.tensor([0.0, 0.4, 1.1, 3.0, 9.0], dtype=torch.float64)
    variances = torch.tensor([0.2, 0.3, 1.2, 8.0], dtype=torch.float64)
    grid, mean, total = sigmas.tolist(), 0.0, 1 + 81.0
    for k in (4, 3, 2, 1):
        a, b = linear_step_back(grid[k], grid[k - 1], 0.25, 0.1)
        mean, total = a * mean + b, a**2 * total + float(variances[k - 1])
    chain = gaussian_chain(sigmas, variances, drift)
    count, rng = 20_000, torch.Generator().manual_seed(0)
    for value in (-0.6, 0.1, 1.0):
        x0 = torch.full((count, 1, 1, 1), value, dtype=torch.float64)
        noises = torch.randn(4, count, 1, 1, 1, generator=rng, dtype=torch.float64)
        nats = path_nats(path_of(chain, x0, LABELS.expand(count), noises), sigmas, variances)
        exact = ((value - mean) ** 2 / total + math.log(2 * math.pi * total)) / 2
        assert float(nats.mean()) > exact - 4 * float(nats.std()) / count**0.5
        assert float((-nats).logsumexp(0) - math.log(count)) == pytest.approx(-exact, abs=0.05)  # importance sampling: E exp(-nats) = p(x0)


def test_bound_of_the_exact_way_back_is_the_entropy() -> None:
    """Data N(0.1, 0.25) and the true reverse chain: every path's ratio is -log p(x0), up to the prior's share at sigma_N."""
    sigmas = torch.tensor([0.0, 0.2, 0.5, 1.1, 3.0, 300.0], dtype=torch.float64)
    grid, v = sigmas.tolist(), 0.25
    back = [(v + low**2) * (high**2 - low**2) / (v + high**2) for low, high in itertools.pairwise(grid)]
    variances = torch.tensor(back, dtype=torch.float64)
    chain = gaussian_chain(sigmas, variances, Linear(0.0, 0.0), variance=v)
    rng = torch.Generator().manual_seed(0)
    x0 = 0.1 + v**0.5 * torch.randn(50, 1, 1, 1, generator=rng, dtype=torch.float64)
    path = path_of(chain, x0, LABELS.expand(50), torch.randn(5, 50, 1, 1, 1, generator=rng, dtype=torch.float64))
    exact = ((x0.flatten() - 0.1).square() / v + math.log(2 * math.pi * v)) / 2
    assert torch.allclose(path_nats(path, sigmas, variances), exact, atol=5e-3)


def test_best_variances_are_where_the_bound_is_lowest() -> None:
    sigmas = torch.tensor([0.0, 0.4, 1.1, 3.0], dtype=torch.float64)
    chain = gaussian_chain(sigmas, torch.ones(3, dtype=torch.float64), Linear(0.1, 0.0))
    rng = torch.Generator().manual_seed(0)
    x0 = torch.randn(64, 1, 1, 1, generator=rng, dtype=torch.float64)
    path = path_of(chain, x0, LABELS.expand(64), torch.randn(3, 64, 1, 1, 1, generator=rng, dtype=torch.float64))
    best = best_variances(path).requires_grad_()
    (slope,) = torch.autograd.grad(path_nats(path, sigmas, best).mean(), best)
    assert torch.allclose(slope, torch.zeros(3, dtype=torch.float64), atol=1e-10)
    for factor in (0.8, 1.25):
        assert float(path_nats(path, sigmas, best.detach() * factor).mean()) > float(path_nats(path, sigmas, best.detach()).mean())


def test_loss_teaches_both_networks_through_the_path() -> None:
    """The gradient with respect to a drift's weight agrees with finite differences of the loss."""
    denoiser: Denoiser = EpsDenoiser(lively_unet().double())
    chain = TwoWayChain(denoiser, Drift(lively_unet().double()), DiffFlow(steps=3).sigmas(), torch.ones(3))
    loss = path_loss(chain)
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()

    def value() -> Tensor:
        return loss(images, torch.arange(4), torch.Generator().manual_seed(1))

    value().backward()
    for net in (chain.drift.net, denoiser.net):
        weight = net.head.bias
        assert weight.grad is not None
        with torch.no_grad():
            weight += 1e-5
            above = float(value())
            weight -= 2e-5
            below = float(value())
            weight += 1e-5
        assert float(weight.grad) == pytest.approx((above - below) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"batch": 0}, {"power": 0.0}, {"share": 0.0}, {"lr": -1.0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        DiffFlow(**fields)  # type: ignore[arg-type]
