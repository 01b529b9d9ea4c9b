"""Sample images as one small PNG: a grid, ten to a row."""

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bench.data.datasets import DataSet
from bench.records.store import write_atomic

GRID_IMAGES = 40
COLUMNS = 10
GAP = 1
GREY = 128


def exhibit(samples: Tensor, targets: Tensor | None) -> Tensor:
    """What a grid shows, (40, C, H, W): samples; rows of targets above rows of samples; or clips (N, F, C, H, W) down a column each, every
    other one a target where there are some.
    """
    if samples.ndim == 5:
        shown = samples if targets is None else torch.stack([targets[:COLUMNS], samples[:COLUMNS]], dim=1).flatten(0, 1)
        return shown[:COLUMNS].transpose(0, 1).flatten(0, 1)
    if targets is None:
        return samples[:GRID_IMAGES]
    both = zip(targets[: GRID_IMAGES // 2].split(COLUMNS), samples[: GRID_IMAGES // 2].split(COLUMNS))
    return torch.cat([row for pair in both for row in pair])


def save_grid(images: Tensor, path: Path) -> str:
    """Write uint8 images (N, C, H, W) as a PNG and return its path relative to the store."""
    buffer = io.BytesIO()
    Image.fromarray(grid(images).numpy()).save(buffer, format="PNG", optimize=True)
    write_atomic(path, buffer.getvalue())
    return f"{path.parent.name}/{path.name}"


def save_real(data: DataSet, path: Path) -> None:
    """Real test images in the order of the strategies' grids: column k holds class k mod n_classes."""
    by_class = [data.test_images[data.test_labels == k] for k in range(data.n_classes)]
    picked = [by_class[k % data.n_classes] for k in range(GRID_IMAGES)]
    save_grid(torch.stack([same[(k // data.n_classes) % len(same)] for k, same in enumerate(picked)]), path)


def grid(images: Tensor) -> Tensor:
    """(H', W', 3) uint8: rows of ten with a grey line between."""
    n, c, h, w = images.shape
    rows = -(-n // COLUMNS)
    sheet = torch.full((3, rows * (h + GAP) - GAP, COLUMNS * (w + GAP) - GAP), GREY, dtype=torch.uint8)
    for k, image in enumerate(images):
        top, left = (k // COLUMNS) * (h + GAP), (k % COLUMNS) * (w + GAP)
        sheet[:, top : top + h, left : left + w] = image.expand(3, -1, -1) if c == 1 else image
    return sheet.permute(1, 2, 0).contiguous()
