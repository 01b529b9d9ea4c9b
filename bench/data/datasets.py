"""The data sets: fixed splits of uint8 images with labels, and a content hash.

Nothing is downloaded unless the user asks for it.
"""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.hints import near
from bench.values import UserError

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Images uint8 (N, C, H, W) and labels int64 (N,), split once and for all."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    n_classes: int
    hash: str

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.train_images.shape[1:]
        return int(c), int(h), int(w)


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where data may come from: a folder of the user's, and whether the network may be used."""

    folder: Path | None = None
    download: bool = False


Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training images (N, H, W[, C]) and labels (N,), test images and labels."""


def digits(_source: DataSource) -> Split:
    """scikit-learn's handwritten digits (UCI optical recognition), 8x8, 17 grey levels; 1437 train and 360 test, in the set's own order."""
    from sklearn.datasets import load_digits  # inside: half a second that only this set needs

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    return images[:1437], data.target[:1437], images[1437:], data.target[1437:]


def fashion_mnist(source: DataSource) -> Split:
    """Fashion-MNIST (arXiv 1708.07747), 28x28, 60,000 train and 10,000 test."""
    folder = find_fashion(source)
    parts = [_idx(folder, f"{part}-{kind}") for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return parts[0], parts[1], parts[2], parts[3]


def fashion_mnist_16(source: DataSource) -> Split:
    """Fashion-MNIST for CPUs: 2x2 block means (14x14) in a black frame of one pixel, 16x16."""
    train, train_labels, test, test_labels = fashion_mnist(source)
    return _halved(train), train_labels, _halved(test), test_labels


def cifar10(source: DataSource) -> Split:
    """CIFAR-10, 32x32 RGB, 50,000 train and 10,000 test, in torchvision's format."""
    from torchvision.datasets import CIFAR10  # inside: a second that only this set needs

    root = source.folder or _cache()
    try:
        parts = [CIFAR10(str(root), train=train, download=source.download) for train in (True, False)]
    except RuntimeError as error:
        raise UserError(f"cifar10 is not in {root}: give its folder with --data DIR, or --download") from error
    train, test = parts
    return train.data, np.array(train.targets), test.data, np.array(test.targets)


LOADERS: dict[str, Callable[[DataSource], Split]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "fashion-mnist-16": fashion_mnist_16,
    "cifar10": cifar10,
}


def load(name: str, source: DataSource) -> DataSet:
    """A data set by name, or `folder:PATH` for a folder of images with one sub-folder per class."""
    if name.startswith("folder:"):
        from bench.data.folder import image_folder  # inside: PIL only where images are files

        return _make(name, image_folder(Path(name.removeprefix("folder:"))))
    if name not in LOADERS:
        raise UserError(f"unknown data set '{name}'{near(name, LOADERS)}, or folder:PATH")
    return _cached(name, source.folder, source.download)


@lru_cache(maxsize=2)
def _cached(name: str, folder: Path | None, download: bool) -> DataSet:
    return _make(name, LOADERS[name](DataSource(folder=folder, download=download)))


def _make(name: str, split: Split) -> DataSet:
    tensors = [_nchw(split[0]), torch.from_numpy(np.asarray(split[1], dtype=np.int64)), _nchw(split[2])]
    tensors.append(torch.from_numpy(np.asarray(split[3], dtype=np.int64)))
    content = hashlib.sha256(name.encode())
    for tensor in tensors:
        content.update(str(tuple(tensor.shape)).encode())
        content.update(tensor.numpy().tobytes())
    train, train_labels, test, test_labels = tensors
    return DataSet(
        name=name,
        train_images=train,
        train_labels=train_labels,
        test_images=test,
        test_labels=test_labels,
        n_classes=int(train_labels.max()) + 1,
        hash=content.hexdigest()[:16],
    )


def _nchw(images: np.ndarray) -> Tensor:
    """(N, H, W) or (N, H, W, C) uint8 -> (N, C, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def find_fashion(source: DataSource) -> Path:
    candidates = [source.folder] if source.folder else [_cache() / "FashionMNIST" / "raw", DEBIAN_FASHION]
    for folder in candidates:
        for inside in (folder, folder / "FashionMNIST" / "raw"):
            if all((inside / f"{n}-ubyte.gz").is_file() for n in ("train-images-idx3", "t10k-images-idx3")):
                return inside
    if source.download:
        from torchvision.datasets import FashionMNIST  # inside: only a download needs it

        root = source.folder or _cache()
        FashionMNIST(str(root), download=True)
        return root / "FashionMNIST" / "raw"
    where = f" in {source.folder}" if source.folder else ""
    raise UserError(
        f"fashion-mnist not found{where}: give its folder with --data DIR, "
        "install Debian's package dataset-fashion-mnist, or pass --download"
    )


def _idx(folder: Path, stem: str) -> np.ndarray:
    """A gzipped IDX file: magic number whose last byte is the rank, big-endian sizes, bytes."""
    path = folder / f"{stem}-ubyte.gz"
    try:
        raw = gzip.decompress(path.read_bytes())
        rank = raw[3]
        sizes = np.frombuffer(raw, dtype=">i4", count=rank, offset=4)
        return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank).reshape(sizes).copy()
    except (OSError, EOFError, ValueError, IndexError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise UserError(f"cannot read {path}: {error}") from error


def _halved(images: np.ndarray) -> np.ndarray:
    n, h, w = images.shape
    means = images.reshape(n, h // 2, 2, w // 2, 2).mean(axis=(2, 4))
    return np.pad(np.round(means).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))


def _cache() -> Path:
    return Path(torch.hub.get_dir()).parent / "diffusion-bench" / "data"
