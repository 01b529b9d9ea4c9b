"""The game of two networks: its losses and its penalty by definition, and whose turn it is."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from bench.nets.ema import seeded
from bench.training.adversarial import Game, critic_loss, generator_loss, gradient_penalty, train_game
from tests.oracles import kit_of


def test_penalty_of_a_linear_critic_is_half_its_squared_slope() -> None:
    w = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    value = gradient_penalty(lambda images: (w * images).flatten(1).sum(1), x)
    assert value.item() == pytest.approx(float(w.detach().square().sum()) / 2, rel=1e-6)
    (slope,) = torch.autograd.grad(value, w)
    assert torch.allclose(slope, w.detach(), atol=1e-6)


def test_losses_at_known_logits() -> None:
    half = torch.tensor([0.0, 0.0])
    assert float(critic_loss(half, half)) == pytest.approx(2 * math.log(2))
    assert float(generator_loss(torch.tensor([2.0]))) == pytest.approx(-math.log(1 / (1 + math.exp(-2))))
    assert float(critic_loss(torch.tensor([20.0]), torch.tensor([-20.0]))) < 1e-6


def tiny_game(calls: list[str], critic: nn.Linear, generator: nn.Linear) -> Game:
    """Each loss notes its call; the critic's pulls its weights up, the generator's runs through the critic."""

    def noted(what: str, value: Tensor) -> Tensor:
        calls.append(what)
        return value

    return Game(
        critic=critic,
        critic_loss=lambda *_: noted("critic", -critic.weight.sum()),
        penalty=lambda *_: noted("penalty", 0 * critic.weight.sum()),
        generator_loss=lambda *_: noted("generator", critic(generator(torch.ones(1, 2))).sum()),
        critic_lr=0.01,
        generator_lr=0.02,
        lazy=3,
    )


def test_both_networks_learn_in_turn_and_the_penalty_is_lazy() -> None:
    kit = kit_of(torch.zeros(8, 1, 8, 8).byte(), torch.zeros(8, dtype=torch.long), train_batch=4)
    seen: list[tuple[int, int]] = []
    kit = dataclasses.replace(kit, progress=lambda _what, done, total: seen.append((done, total)))
    calls: list[str] = []
    with seeded(0):
        critic, generator = nn.Linear(2, 1), nn.Linear(2, 2)
    weights, bias = critic.weight.detach().clone(), critic.bias.detach().clone()
    before = generator.weight.detach().clone()
    average = train_game(generator, tiny_game(calls, critic, generator), kit, images_seen=27, what="test")
    assert calls == [*("critic", "penalty", "generator"), *["critic", "generator"] * 2] * 2 + ["critic", "penalty", "generator"]
    assert seen[-1] == (28, 28)
    assert bool((critic.weight > weights).all()) and torch.equal(critic.bias, bias)  # the generator's loss leaves the critic alone
    assert not torch.equal(generator.weight, before) and not torch.equal(average.weight, generator.weight)
    assert not any(p.requires_grad for p in average.parameters())


def test_divergence_is_an_error() -> None:
    kit = kit_of(torch.zeros(8, 1, 8, 8).byte(), torch.zeros(8, dtype=torch.long))
    critic, generator = nn.Linear(2, 1), nn.Linear(2, 2)
    game = dataclasses.replace(tiny_game([], critic, generator), generator_loss=lambda *_: float("nan") * generator.weight.sum())
    with pytest.raises(FloatingPointError, match="diverged"):
        train_game(generator, game, kit, images_seen=64, what="test")
