"""The game of two networks: its losses and its penalty by definition, whose turn it is, and what both hear."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from bench.nets.adversarial import PairCritic, with_spread
from bench.nets.ema import seeded
from bench.training.adversarial import Game, critic_loss, generator_loss, gradient_penalty, train_game
from tests.oracles import kit_of, lively_unet


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


def test_the_critic_leads_alone_and_then_both_go_on() -> None:
    kit = kit_of(torch.zeros(8, 1, 8, 8).byte(), torch.zeros(8, dtype=torch.long), train_batch=4)
    seen: list[tuple[int, int]] = []
    kit = dataclasses.replace(kit, progress=lambda _what, done, total: seen.append((done, total)))
    calls: list[str] = []
    with seeded(0):
        critic, generator = nn.Linear(2, 1), nn.Linear(2, 2)
    start = generator.weight.detach().clone()
    game = tiny_game(calls, critic, generator)
    moved: list[bool] = []

    def watched(*_: object) -> Tensor:
        moved.append(not torch.equal(generator.weight, start))
        return -critic.weight.sum()

    game = dataclasses.replace(game, critic_loss=watched, lead=4)
    generator.requires_grad_(False)  # as a first training leaves it
    train_game(generator, game, kit, images_seen=8, what="test")
    assert moved == [False] * 5 + [True]
    assert calls == ["penalty", "penalty", "generator", "generator"] and seen[-1] == (24, 24)


def test_divergence_is_an_error() -> None:
    kit = kit_of(torch.zeros(8, 1, 8, 8).byte(), torch.zeros(8, dtype=torch.long))
    critic, generator = nn.Linear(2, 1), nn.Linear(2, 2)
    game = dataclasses.replace(tiny_game([], critic, generator), generator_loss=lambda *_: float("nan") * generator.weight.sum())
    with pytest.raises(FloatingPointError, match="diverged"):
        train_game(generator, game, kit, images_seen=64, what="test")


def test_spread_is_that_of_each_group_of_four() -> None:
    """Images k, k + 2, k + 4, k + 6 of eight are a group; the one channel more is the mean over features of their deviation."""
    h = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    out = with_spread(h)
    assert out.shape == (8, 4, 4, 4) and torch.equal(out[:, :3], h)
    for k in range(8):
        wanted = h[k % 2 :: 2].double().numpy().std(axis=0).mean()
        assert out[k, 3].numpy() == pytest.approx(wanted, abs=1e-6)
    assert float(with_spread(h[:1].expand(4, 3, 4, 4))[:, 3].abs().max()) < 1e-3  # a generator of one image is seen through
    assert with_spread(h[:6]).shape == (6, 4, 4, 4) and with_spread(h[:1]).shape == (1, 4, 4, 4)


def test_an_untrained_critic_passes_on_what_it_sees() -> None:
    """Its features keep their variance, and so its logits differ from image to image: not so with weights of a third of that variance."""
    rng = torch.Generator().manual_seed(0)
    with seeded(0):
        critic = PairCritic(1, 8, 10, 32)
    low, high = torch.randn(256, 1, 8, 8, generator=rng), torch.randn(256, 1, 8, 8, generator=rng)
    t, labels = torch.full((256,), 500.0), torch.zeros(256, dtype=torch.long)
    with torch.no_grad():
        assert float(critic(low, high, t, labels).std()) > 0.5


@torch.no_grad()
def test_extra_embedding_is_that_of_another_label() -> None:
    net, labels = lively_unet().double(), torch.tensor([1, 5, 9])
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.full((3,), 500.0, dtype=torch.float64)
    others = torch.tensor([4, 0, 2])
    moved = net(x, t, labels, net.label(others) - net.label(labels))
    assert torch.allclose(moved, net(x, t, others), atol=1e-10) and not torch.allclose(moved, net(x, t, labels), atol=1e-2)
