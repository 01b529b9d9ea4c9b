"""Networks that train fast learn what they learn as written; what a loss calls is what is made fast; their figures stand apart."""

import dataclasses
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench.cli.options import trained_by
from bench.contract import Evaluation, Kit
from bench.data.datasets import DataSource, load
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.harness.assets import compiled as fast
from bench.harness.assets.trained import CLIP_CLASSIFIER, FEATURE_CLASSIFIER, RECIPES, asset_id, priced
from bench.harness.plan.cells import Options, plan
from bench.meters.energy.carbon import WORLD
from bench.nets.autoencoder import Autoencoder
from bench.nets.ema import seeded
from bench.registry import discover
from bench.suites.suite import load as load_suite
from bench.testing.checks import check_training
from bench.testing.subject import watched
from bench.training.adversarial import Game, gradient_penalty, train_game
from bench.training.noise_prediction import eps_loss, unweighted
from bench.training.train import train
from bench.values import Compute
from tests.conftest import Run
from tests.fakes import CPU
from tests.oracles import Small, kit_of

STEPS = 8


def digits_kit(compute: Compute) -> Kit:
    data = load("digits", DataSource())
    kit = kit_of(data.train_images, data.train_labels, train_batch=16)
    return dataclasses.replace(kit, budget=dataclasses.replace(kit.budget, training=compute))


def learnt(compute: Compute) -> Tensor:
    """All weights of a small denoiser after some steps, as a vector."""

    def run(kit: Kit) -> nn.Module:
        with seeded(0):
            denoiser = EpsDenoiser(Small())
        return train(denoiser, eps_loss(denoiser, unweighted), kit, images_seen=16 * STEPS, what="test")

    return nn.utils.parameters_to_vector(priced(run, digits_kit(compute), WORLD).module.parameters())


@pytest.mark.parametrize(("dtype", "order", "most", "least"), [(torch.float32, math.inf, 1e-4, 0.0), (torch.bfloat16, 2, 0.1, 1e-5)])
def test_training_ends_where_it_ends_as_written(
    dtype: torch.dtype, order: float, most: float, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`most` and `least` of the norm of the weights' differences, as a share of the norm of the way that they have come.

    In bfloat16 it is the Euclidean norm. Adam's step has one length whatever the gradient, so a weight whose gradient is about zero may go
    either way by rounding: on a CPU without instructions for bfloat16, one weight of 369 ends 41 % of the furthest way off.
    """
    monkeypatch.setattr(fast, "number_format", lambda _device: dtype)
    with seeded(0):
        untrained = nn.utils.parameters_to_vector(EpsDenoiser(Small()).parameters()).detach()
    plain, quick = learnt(Compute.REFERENCE).detach(), learnt(Compute.FAST).detach()
    assert float((plain - untrained).abs().max()) > 0.005
    assert least <= float((quick - plain).norm(order) / (plain - untrained).norm(order)) <= most


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """What is compiled, by a stand-in that only notes it."""
    found: list[nn.Module] = []

    def note(forward: Callable[..., object]) -> Callable[..., object]:
        found.append(forward.__self__)  # type: ignore[attr-defined]
        return forward

    monkeypatch.setattr(fast.torch, "compile", note)
    return found


class Indirect(nn.Module):
    """Its loss asks for a method that calls a network, and never for its `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Small()

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.inner(x, t, None)
        return out

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.velocity(x, t)


def trained_with(net: nn.Module, loss: Callable[[Tensor], Tensor], kit: Kit) -> None:
    with fast.trained(Compute.FAST, CPU) as evaluated:
        quick = dataclasses.replace(kit, evaluated=evaluated)
        train(net, lambda images, _labels, _generator: loss(images), quick, images_seen=2 * 16, what="test")
    assert all("forward" not in vars(module) for module in net.modules())  # as written again


def test_what_a_loss_calls_is_made_fast(compiled: list[nn.Module]) -> None:
    """Whole, however it is reached: a network, one behind a method, the two halves of a codec; not their layers one by one."""
    kit = digits_kit(Compute.FAST)
    times = torch.zeros(16)
    whole, indirect, codec = Small(), Indirect(), Autoencoder(1, latent=4, width=8)
    trained_with(whole, lambda x: whole(x, times, None).square().mean(), kit)
    assert compiled == [whole]
    trained_with(indirect, lambda x: indirect.velocity(x, times).square().mean(), kit)
    assert compiled[1:] == [indirect.inner]
    trained_with(codec, lambda x: codec.decode(codec.encode(x)).square().mean(), kit)
    assert compiled[2:] == [codec.encoder, codec.decoder]


def test_a_critic_stays_as_written(compiled: list[nn.Module]) -> None:
    """Its penalty needs second derivatives, which compiled networks have none of."""
    kit, times = digits_kit(Compute.FAST), torch.zeros(16)
    generator, critic = Small(), nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 36, 1))
    game = Game(
        critic=critic,
        critic_loss=lambda x, _labels, _generator: -critic(x).mean(),
        penalty=lambda x, _labels, _generator: gradient_penalty(critic, x),
        generator_loss=lambda x, _labels, _generator: -critic(generator(x, times, None)).mean(),
        critic_lr=1e-3,
        generator_lr=1e-3,
        lazy=1,
    )
    with fast.trained(Compute.FAST, CPU) as evaluated:
        train_game(generator, game, dataclasses.replace(kit, evaluated=evaluated), images_seen=2 * 16, what="test")
    assert compiled == [generator]


def fitted(inside: bool) -> SimpleNamespace:
    """What a check is given: a fit of one step, with `kit.evaluated` or without."""

    def fit(evaluated: Evaluation) -> nn.Module:
        model = nn.Linear(2, 1)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        with evaluated(model) if inside else nullcontext():
            model(torch.ones(1, 2)).sum().backward()
            optimiser.step()
        return model

    return SimpleNamespace(fitted=watched(fit))


def test_a_loop_that_forgets_how_networks_are_evaluated_is_found() -> None:
    check_training(fitted(inside=True))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"SGD steps outside of kit\.evaluated, times: 1"):
        check_training(fitted(inside=False))  # type: ignore[arg-type]


def test_networks_that_measure_are_always_trained_as_written() -> None:
    """So that distances mean the same; those that are measured are told apart."""
    data = load("digits", DataSource())
    budgets = [digits_kit(compute).budget for compute in Compute]
    for name in RECIPES:
        ids = {asset_id(name, data, budget) for budget in budgets}
        assert len(ids) == (1 if name in (FEATURE_CLASSIFIER, CLIP_CLASSIFIER) else 2)


def test_cells_of_the_two_trainings_are_apart(tiny_suite: Path) -> None:
    """Their ids and terms differ, the reference of their quality does not; an id without the choice is what it was before there was one."""
    suite = load_suite(str(tiny_suite))
    plain, quick = (plan(trained_by(suite, compute), discover(()), Options()).cells for compute in Compute)
    for a, b in zip(plain, quick, strict=True):
        assert a.id != b.id and a.terms != b.terms and a.reference_hash == b.reference_hash
    assert plain == plan(suite, discover(()), Options()).cells


def test_the_command_line_chooses(bench: Run, tiny_suite: Path) -> None:
    plain, quick = (json.loads(bench("plan", tiny_suite, "--json", *words).stdout)["cells"] for words in ((), ("--training", "fast")))
    assert len(plain) == len(quick) and not {c["id"] for c in plain} & {c["id"] for c in quick}
