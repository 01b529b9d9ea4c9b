"""The controls: a floor with the training images' moments, a ceiling made of training images of the asked class."""

import math

import pytest
import torch

from bench.data.datasets import DataSource, load
from strategies.control.gaussian import Gaussian, PixelGaussian
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


def test_likelihood_of_the_floor_is_that_of_its_normals() -> None:
    """One bit per dimension where half of the probability lies on the image's grey level, none where all of it does."""
    model = PixelGaussian(torch.full((4, 1, 1, 1), 100, dtype=torch.uint8))  # one grey level, the smallest deviation
    images = torch.tensor([100, 101], dtype=torch.uint8).reshape(2, 1, 1, 1)
    sharp, off = Gaussian().bits_per_dim(model, images, request(2, (1, 1, 1))).tolist()
    inside = math.erf(1 / math.sqrt(2))  # half a bin is one deviation
    assert sharp == pytest.approx(-math.log2(inside), rel=1e-3)
    assert off == pytest.approx(-math.log2((math.erf(3 / math.sqrt(2)) - inside) / 2), rel=1e-3)
