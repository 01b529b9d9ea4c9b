"""Data sets: fixed splits, content hashes, one padding rule, and errors that say what to do."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import datasets
from bench.data.datasets import DataSource, load
from bench.data.images import padded, to_model, to_uint8
from bench.values import UserError


def test_digits_are_real_and_split() -> None:
    data = load("digits", DataSource())
    assert data.shape == (1, 8, 8) and data.n_classes == 10
    assert len(data.train_images) == 1437 and len(data.test_images) == 360
    assert len(data.train_images.unique()) == 17
    assert data.hash == load("digits", DataSource()).hash


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 5, 17)])
def test_uint8_survives_the_way_to_the_model_and_back(shape: tuple[int, int, int]) -> None:
    images = torch.arange(4 * shape[0] * shape[1] * shape[2]).remainder(256).byte().reshape(4, *shape)
    x = to_model(images)
    assert tuple(x.shape[1:]) == padded(shape) and all(side % 8 == 0 for side in x.shape[2:])
    assert float(x.min()) >= -1 and float(x.max()) <= 1
    assert torch.equal(to_uint8(x, shape), images)


def test_rounding_is_to_the_nearest_level_and_clips() -> None:
    x = torch.tensor([-2.0, -1.0, -1 + 0.9 / 255, -1 + 1.1 / 255, 1.0, 3.0]).reshape(1, 1, 1, 6)
    full = torch.nn.functional.pad(x, (1, 1, 3, 4))
    assert to_uint8(full, (1, 1, 6)).flatten().tolist() == [0, 0, 0, 1, 255, 255]


def write_idx(folder: Path, stem: str, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    (folder / f"{stem}-ubyte.gz").write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """A folder in Fashion-MNIST's format with a few images."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 30), ("t10k", 10)):
        write_idx(tmp_path, f"{part}-images-idx3", rng.integers(0, 256, (n, 28, 28)))
        write_idx(tmp_path, f"{part}-labels-idx1", np.arange(n) % 10)
    return tmp_path


def test_fashion_mnist_from_a_folder(fashion: Path) -> None:
    data = load("fashion-mnist", DataSource(folder=fashion))
    assert data.shape == (1, 28, 28) and len(data.train_images) == 30 and data.test_labels.tolist() == list(range(10))
    small = load("fashion-mnist-16", DataSource(folder=fashion))
    assert small.shape == (1, 16, 16) and small.hash != data.hash
    block = data.train_images[3, 0, 4:6, 6:8].double().mean().round()
    assert float(small.train_images[3, 0, 3, 4]) == pytest.approx(float(block), abs=1)
    assert not small.train_images[:, :, 0].any()


def test_content_changes_the_hash(fashion: Path) -> None:
    before = load("fashion-mnist", DataSource(folder=fashion)).hash
    images = load("fashion-mnist", DataSource(folder=fashion)).train_images.numpy()[:, 0].copy()
    images[0, 0, 0] ^= 1
    write_idx(fashion, "train-images-idx3", images)
    datasets._cached.cache_clear()
    assert load("fashion-mnist", DataSource(folder=fashion)).hash != before


def test_missing_fashion_mnist_names_all_three_ways(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load("fashion-mnist", DataSource(folder=tmp_path))
    for way in ("--data", "dataset-fashion-mnist", "--download"):
        assert way in str(error.value)


def test_damaged_idx_file_is_named(fashion: Path) -> None:
    path = fashion / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="t10k-images"):
        load("fashion-mnist", DataSource(folder=fashion))


def test_missing_cifar_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--download"):
        load("cifar10", DataSource(folder=tmp_path))
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load("digit", DataSource())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        (tmp_path / label).mkdir()
        for k in range(10):
            Image.new("RGB", (20, 18), colour).save(tmp_path / label / f"{k}.png")
    return tmp_path


def test_any_image_folder(folder: Path) -> None:
    data = load(f"folder:{folder}", DataSource())
    assert data.shape == (3, 16, 16) and data.n_classes == 2
    assert len(data.train_images) == 16 and len(data.test_images) == 4
    assert data.train_images[0, 0].min() == 255 and data.train_images[0, 2].max() == 0


def test_corrupt_image_is_named(folder: Path) -> None:
    (folder / "b" / "3.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"corrupt image .*3\.png"):
        load(f"folder:{folder}", DataSource())


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 10"):
        load(f"folder:{tmp_path}", DataSource())
