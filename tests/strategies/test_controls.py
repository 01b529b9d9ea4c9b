"""The controls: a floor with the training images' moments, a ceiling made of training images of the asked class."""

import torch

from bench.data.datasets import DataSource, load
from strategies.control.gaussian import Gaussian
from strategies.control.resample import Resample
from tests.oracles import kit_of, request


def test_floor_has_the_moments_of_the_data() -> None:
    data = load("digits", DataSource())
    strategy = Gaussian()
    model = strategy.fit(kit_of(data.train_images, data.train_labels))
    images = strategy.sample(model, request(4000)).float()
    real = data.train_images.float()
    inner = real.std(0) > 40  # where clipping at black and white is not the whole story
    assert float((images.mean(0) - real.mean(0))[inner].abs().max()) < 25


def test_ceiling_returns_training_images_of_the_class() -> None:
    data = load("digits", DataSource())
    strategy, asked = Resample(), request(200)
    images = strategy.sample(strategy.fit(kit_of(data.train_images, data.train_labels)), asked)
    flat = {tuple(i.flatten().tolist()): int(y) for i, y in zip(data.train_images, data.train_labels, strict=True)}
    assert all(flat[tuple(i.flatten().tolist())] == int(y) for i, y in zip(images, asked.labels, strict=True))
    assert len({tuple(i.flatten().tolist()) for i in images}) > 150


def test_uniform_pixels_cost_eight_bits() -> None:
    """A normal far wider than the pixel range gives each grey level but the open ends the same probability; a narrow one is sharp."""
    from bench.diffusion.likelihood import bits_per_dim, discretised_gaussian

    x = torch.arange(256, dtype=torch.float64).reshape(1, 1, 16, 16) / 127.5 - 1
    for sd, bits in ((1e-4, 0.0),):
        nats = -discretised_gaussian(x, x, sd).flatten(1).sum(1)
        assert float(bits_per_dim(nats, (1, 16, 16))) == bits
    every = torch.stack([discretised_gaussian(torch.full((1,), v), torch.zeros(1), 0.5).exp() for v in x.flatten()])
    assert abs(float(every.sum()) - 1) < 1e-9
