"""Multinomial diffusion against brute-force enumeration of small chains."""

import itertools

import pytest
import torch
from torch import Tensor

from bench.diffusion.categorical import cosine_retention, draw, log_blend, log_onehot, log_posterior
from strategies.eps.training.multinomial import CategoricalModel, Multinomial
from tests.oracles import request


def kernel(keep: float, k: int) -> Tensor:
    """Transition matrix of one step: rows are x_{t-1}, columns x_t."""
    return keep * torch.eye(k, dtype=torch.float64) + (1 - keep) / k


@pytest.mark.parametrize("k", [2, 3, 4])
def test_marginals_and_posteriors_equal_enumeration(k: int) -> None:
    a, abar = cosine_retention(3)
    kernels = [kernel(float(keep), k) for keep in a]
    paths = torch.zeros(k, k, k, k, dtype=torch.float64)  # p(x1, x2, x3 | x0)
    for x0, x1, x2, x3 in itertools.product(range(k), repeat=4):
        paths[x0, x1, x2, x3] = kernels[0][x0, x1] * kernels[1][x1, x2] * kernels[2][x2, x3]
    marginals = [paths.sum((2, 3)), paths.sum((1, 3)), paths.sum((1, 2))]
    for t, marginal in enumerate(marginals, start=1):
        assert torch.allclose(log_blend(log_onehot(torch.arange(k), k), abar[t].expand(k)).exp(), marginal, atol=1e-12)
    joints = {2: paths.sum(3), 3: paths.sum(1)}  # (x0, x_{t-1}, x_t)
    for t, joint in joints.items():
        exact = joint / joint.sum(1, keepdim=True)
        for x0, xt in itertools.product(range(k), repeat=2):
            ours = log_posterior(
                log_onehot(torch.tensor([x0]), k), log_onehot(torch.tensor([xt]), k), a[t - 1].expand(1), abar[t - 1].expand(1)
            )
            assert torch.allclose(ours.exp()[0], exact[x0, :, xt], atol=1e-12)


def test_first_posterior_is_certain_and_last_marginal_uniform() -> None:
    a, abar = cosine_retention(100)
    certain = log_posterior(log_onehot(torch.tensor([2]), 5), log_onehot(torch.tensor([4]), 5), a[:1], abar[:1])
    assert float(certain.exp()[0, 2]) == pytest.approx(1, abs=1e-9)
    last = log_blend(log_onehot(torch.tensor([2]), 5), abar[-1:])
    assert float((last.exp() - 0.2).abs().max()) < 1e-3
    assert bool((abar.diff() <= 0).all()) and float(abar[0]) == 1


def test_draw_inverts_the_cumulative_distribution() -> None:
    log_p = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64).log()
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    counts = draw(log_p.expand(10_000, 4), u).bincount(minlength=4)
    assert counts.tolist() == [1000, 0, 6000, 3000]


class Knowing(CategoricalModel):
    """A one-pixel model whose x0 distribution is given, so that its likelihood can be enumerated."""

    def __init__(self, steps: int, p0: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.levels, self.p0 = len(p0), p0
        self.step_keep, self.keep = cosine_retention(steps)

    def log_x0(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """The exact p(x0 | x_t) under p0."""
        likelihood = log_blend(log_onehot(x, self.levels), self.keep[t][:, None, None, None])  # the kernel is symmetric
        return (self.p0.log() + likelihood).log_softmax(-1)


def chain_probability(model: Knowing, steps: int) -> Tensor:
    """p(x0) of the reverse chain from a uniform start, by multiplying matrices."""
    k = model.levels
    every = torch.arange(k).reshape(k, 1, 1, 1)
    p = torch.full((k,), 1 / k, dtype=torch.float64)
    for t in range(steps, 0, -1):
        p = p @ model.log_reverse(every, torch.full((k,), t), None).exp().reshape(k, k)
    return p


def enumerated_bound(model: Knowing, steps: int, x0: int) -> float:
    """The bound of one level in bits, by summing over all states with transition matrices."""
    k = model.levels
    kernels = [kernel(float(keep), k) for keep in model.step_keep]
    marginal = [torch.eye(k, dtype=torch.float64)[x0]]
    for step in kernels:
        marginal.append(marginal[-1] @ step)
    nats = float((marginal[-1] * (marginal[-1] * k).log()).sum())
    every = torch.arange(k).reshape(k, 1, 1, 1)
    for t in range(1, steps + 1):
        reverse = model.log_reverse(every, torch.full((k,), t), None).reshape(k, k)
        for xt in range(k):
            exact = marginal[t - 1] * kernels[t - 1][:, xt] / marginal[t][xt]
            nats += float(marginal[t][xt] * torch.special.entr(exact).neg().sub(exact * reverse[xt]).sum())
    return nats / float(torch.tensor(2.0).log())


def test_bound_equals_its_enumeration_and_lies_above_the_likelihood() -> None:
    p0 = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    strategy, model = Multinomial(levels=3, steps=3), Knowing(3, p0)
    exact = -chain_probability(model, 3).log2()
    for level, grey in enumerate((0, 128, 255)):
        bound = enumerated_bound(model, 3, level)
        images = torch.full((4000, 1, 1, 1), grey, dtype=torch.uint8)
        assert strategy_bits(strategy, model, images) == pytest.approx(bound, abs=0.03)
        assert bound >= float(exact[level])


def strategy_bits(strategy: Multinomial, model: Knowing, images: Tensor) -> float:
    """Bits of the level, the spread over its grey values taken off."""
    import bench.data.images as rule

    original = rule.MULTIPLE
    rule.MULTIPLE = 1  # one pixel needs no padding
    try:
        bits = float(strategy.bits_per_dim(model, images, request(len(images), (1, 1, 1))).mean())
        greys = strategy.quantised(torch.arange(256) / 127.5 - 1).bincount(minlength=3)
        return bits - float(greys[strategy.quantised(images[0].float() / 127.5 - 1)].double().log2())
    finally:
        rule.MULTIPLE = original


@pytest.mark.parametrize("fields", [{"levels": 1}, {"levels": 300}, {"steps": 1}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Multinomial(**fields)
