"""Coarse drawings: flat blocks in four grey levels, made from the means of the images."""

import pytest
import torch
from torch import Tensor

from bench.data.datasets import DataSource, load
from bench.data.guides import drawings

GREYS = {0, 85, 170, 255}


def noise_images(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).byte()


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (3, 3, 28, 28), (2, 3, 12, 20)])
def test_blocks_are_flat_and_grey_levels_four(shape: tuple[int, ...]) -> None:
    images = noise_images(*shape)
    drawn = drawings(images)
    assert drawn.dtype == torch.uint8 and drawn.shape == images.shape
    assert set(drawn.unique().tolist()) <= GREYS
    _, _, height, width = shape
    blocks = drawn.unflatten(3, (4, width // 4)).unflatten(2, (4, height // 4))  # (N, C, row, y, column, x)
    assert torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))


def test_a_block_has_the_level_nearest_to_its_mean() -> None:
    images = noise_images(4, 2, 8, 16)
    levels = torch.tensor(sorted(GREYS))
    drawn = drawings(images)
    for row in range(4):
        for column in range(4):
            block = (..., slice(2 * row, 2 * row + 2), slice(4 * column, 4 * column + 4))
            means = images[block].double().mean((-1, -2))
            nearest = levels[(means[..., None] - levels).abs().argmin(-1)]
            assert torch.equal(drawn[block][..., 0, 0].long(), nearest)


def test_every_level_is_reached() -> None:
    ramp = torch.arange(256).byte()[:, None, None, None].expand(-1, 1, 4, 4)
    drawn = drawings(ramp)[:, 0, 0, 0].int()
    assert set(drawn.tolist()) == GREYS and bool((drawn.diff() >= 0).all())
    assert int((drawn - torch.arange(256)).abs().max()) <= 43


def test_a_drawing_of_a_drawing_is_the_same() -> None:
    drawn = drawings(load("digits", DataSource()).test_images)
    assert torch.equal(drawings(drawn), drawn)
    assert len(drawn.flatten(1).unique(dim=0)) > 0.9 * len(drawn)  # coarse, but not all alike


def test_images_are_drawn_one_by_one() -> None:
    images = noise_images(6, 1, 8, 8)
    assert torch.equal(drawings(images)[2:3], drawings(images[2:3]))


@pytest.mark.parametrize("shape", [(1, 1, 6, 8), (1, 1, 8, 6), (1, 3, 7, 7)])
def test_sides_that_cannot_be_cut_in_four_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"sides divisible by 4, not {shape[2]} x {shape[3]}"):
        drawings(noise_images(*shape))
