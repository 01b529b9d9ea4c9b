"""FSDM: the support says the same in any order, never shows the image itself, and at first says nothing."""

import pytest
import torch
from torch import Tensor, nn

from bench.contract import Denoiser
from bench.data.datasets import DataSource, load
from bench.data.images import to_model
from bench.nets.ema import seeded
from bench.registry import discover
from bench.testing.subject import Subject
from strategies.eps.training.fsdm import FSDM
from strategies.eps.training.fsdm.encoders import MeanOfImages, SetTransformer, ShiftedPatches
from strategies.eps.training.fsdm.training import Classes, FewShotModel
from tests.oracles import lively_unet

WIDTH = 8
ENCODERS = ("set", "mean")


def encoder(name: str) -> nn.Module:
    """One whose last layer is not silent."""
    with seeded(4):
        made = SetTransformer(1, 8, 4 * WIDTH) if name == "set" else MeanOfImages(1, 4 * WIDTH)
        nn.init.normal_(made.out.weight)
    return made.eval()


def support(count: int = 3, shots: int = 5) -> Tensor:
    return torch.randn(count, shots, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ENCODERS)
def test_order_and_repetition_of_the_support_say_nothing(name: str) -> None:
    shown, net = support(), encoder(name)
    said = net(shown)
    assert torch.allclose(net(shown[:, [4, 2, 0, 1, 3]]), said, atol=1e-5)
    assert torch.allclose(net(shown.repeat(1, 2, 1, 1, 1)), said, atol=1e-5)
    one = shown[:, :1]
    assert torch.allclose(net(one.repeat(1, 5, 1, 1, 1)), net(one), atol=1e-5)
    assert not torch.allclose(net(shown.flip(0)), said, atol=1e-2)
    assert not torch.allclose(net(shown.flip(-1)), said, atol=1e-2)  # but where things are says something


@pytest.mark.parametrize("name", ENCODERS)
def test_images_of_the_support_of_one_do_not_reach_another(name: str) -> None:
    shown, net = support(), encoder(name)
    changed = shown.clone()
    changed[1] += 1
    assert torch.allclose(net(changed)[[0, 2]], net(shown)[[0, 2]], atol=1e-6)


def test_a_token_is_of_its_patch_and_of_four_moved_by_half_a_patch() -> None:
    """Brute force: the five windows cut out of a wide black margin, one pixel at a time."""
    with seeded(2):
        made = ShiftedPatches(2, 4)
    images = torch.randn(3, 2, 8, 12, generator=torch.Generator().manual_seed(3))
    canvas = torch.zeros(3, 2, 12, 16)
    canvas[:, :, 2:10, 2:14] = images
    tokens = made(images)
    assert tokens.shape == (3, 6, 64)
    for number, (top, left) in enumerate((y, x) for y in (0, 4) for x in (0, 4, 8)):
        corners = [(top + 2 + y, left + 2 + x) for y, x in ((0, 0), (2, 2), (2, -2), (-2, 2), (-2, -2))]
        windows = torch.cat([canvas[:, :, y : y + 4, x : x + 4] for y, x in corners], dim=1).flatten(1)
        standard = (windows - windows.mean(1, keepdim=True)) / (windows.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        assert torch.allclose(tokens[:, number], standard @ made.token.weight.T + made.token.bias, atol=1e-5)


def test_an_untrained_encoder_tells_classes_apart() -> None:
    """A tenth of the pooled tokens is variance between classes; where that is a thousandth, a short training never finds the class."""
    digits = load("digits", DataSource())
    classes = Classes(digits.train_labels)
    numbers = torch.arange(300)
    chosen = classes.others(numbers, 5, torch.Generator().manual_seed(0))
    with seeded(0):
        net = SetTransformer(1, 8, 64)
    nn.init.eye_(net.out.weight)
    with torch.no_grad():
        said = net(to_model(digits.train_images[chosen.flatten()]).unflatten(0, chosen.shape))
    labels = digits.train_labels[numbers]
    means = torch.stack([said[labels == label].mean(0) for label in range(digits.n_classes)])
    assert (means - means.mean(0)).square().sum(1).mean() > 0.1 * said.square().sum(1).mean()


def test_an_untrained_encoder_leaves_the_network_without_support() -> None:
    unet = lively_unet()
    with seeded(1):
        model = FewShotModel(unet, SetTransformer(1, 8, 4 * WIDTH))
    x, sigma = support(4, 1)[:, 0], torch.tensor([0.1, 1.0, 5.0, 20.0], dtype=torch.float64)
    alone: Denoiser = FewShotModel(unet, None).shown(support(4))
    assert torch.equal(model.shown(support(4))(x, sigma), alone(x, sigma))
    nn.init.normal_(model.encoder.out.weight)  # type: ignore[union-attr]
    assert not torch.allclose(model.shown(support(4))(x, sigma), alone(x, sigma))


def test_support_of_training_is_every_other_image_of_the_class_and_never_the_image_itself() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 0, 1, 2, 0, 0])
    numbers = torch.arange(len(labels)).repeat(400)
    chosen = Classes(labels).others(numbers, 5, torch.Generator().manual_seed(0))
    assert chosen.shape == (len(numbers), 5)
    assert torch.equal(labels[chosen], labels[numbers, None].expand_as(chosen))
    assert not (chosen == numbers[:, None]).any()
    drawn = chosen[numbers == 1].flatten().bincount(minlength=len(labels))
    others = [3, 6, 9, 10]
    assert drawn[others].sum() == 2000 and (drawn[others] - 500).abs().max() < 4 * (500 * 0.75) ** 0.5  # all alike


def test_samples_follow_the_support() -> None:
    """Another support of the same seeds gives other images where the support is read, and the same where it is not."""
    registry = discover()
    for name, same in (("set", False), ("none", True)):
        subject = Subject("eps.training.fsdm", registry)
        strategy = FSDM(encoder=name, steps=4)  # type: ignore[arg-type]
        model = subject.fit(strategy=strategy)
        if model.encoder is not None:
            nn.init.normal_(model.encoder.out.weight)  # type: ignore[union-attr, arg-type]
        asked = subject.request()
        flipped = type(asked)(**{**vars(asked), "support": asked.support.flip(0)})  # type: ignore[attr-defined]
        with torch.no_grad():
            assert torch.equal(strategy.sample(model, asked), strategy.sample(model, flipped)) is same  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), [("shots", 0), ("eta", 2.0), ("steps", 0)])
def test_refusals(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        FSDM(**{field: value})  # type: ignore[arg-type]
