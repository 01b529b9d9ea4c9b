"""Helpers of the tests: requests, closed forms, tiny networks, images as a data set."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.cards import Edit
from bench.contract import Draws, EditRequest, Kit, Request
from bench.data.datasets import DataSource, load
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.draws import SeededDraws
from bench.nets.ema import seeded
from bench.nets.unet import UNet
from bench.tasks.scenes import scene_of
from bench.testing.subject import BUDGET
from bench.values import Workload


class Recorded:
    """Draws that keep what they gave, in float64, so that another implementation can be fed the same noise."""

    def __init__(self, seeds: Tensor) -> None:
        self._draws = SeededDraws(seeds)
        self.given: list[Tensor] = []

    def normal(self, *shape: int) -> Tensor:
        self.given.append(self._draws.normal(*shape).double())
        return self.given[-1]

    def uniform(self, *shape: int) -> Tensor:
        self.given.append(self._draws.uniform(*shape).double())
        return self.given[-1]


def lively_unet() -> UNet:
    """A U-Net whose zero-initialised ends are not zero."""
    with seeded(3):
        net = UNet(1, 1, 10, width=8)
        for p in net.parameters():
            if not p.any():
                nn.init.normal_(p, std=0.1)
    return net


def denoiser(dtype: torch.dtype = torch.float64) -> EpsDenoiser:
    """A random but lively noise-prediction denoiser of 1x8x8 images."""
    return EpsDenoiser(lively_unet().to(dtype))


class Small(nn.Module):
    """As few operations as a network of ours is made of, so that compiling them takes seconds. The null label is 10, as of ten classes."""

    null = 10

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.Conv2d(16, 1, 3, padding=1)
        self.level = nn.Linear(1, 16)

    def forward(self, x: Tensor, t: Tensor, _labels: Tensor | None) -> Tensor:
        level = self.level(t.float()[:, None] / 1000)[:, :, None, None]
        made: Tensor = self.last(nn.functional.silu(self.norm(self.first(x)) + level))
        return made


def request(
    count: int, shape: tuple[int, int, int] = (1, 8, 8), draws: Draws | None = None, labels: Sequence[int] | None = None
) -> Request:
    seeds = torch.arange(count)
    given = torch.tensor(labels) if labels is not None else seeds % 10
    return Request(seeds=seeds, labels=given, shape=shape, device=torch.device("cpu"), draws=lambda: draws or SeededDraws(seeds))


def edit_request(count: int) -> EditRequest:
    """Drawings of the first held-out digits, as the harness asks for them; seeds as in `request`."""
    asked = scene_of(Edit(), load("digits", DataSource()), torch.device("cpu"), count).request(torch.arange(count), 0)
    assert isinstance(asked, EditRequest)
    return asked


def kit_of(images: Tensor, labels: Tensor, **budget: int) -> Kit:
    """A kit without assets over these images."""
    c, h, w = images.shape[1:]
    return Kit(
        workload=Workload(dataset="test", shape=(c, h, w), n_classes=int(labels.max()) + 1),
        budget=dataclasses.replace(BUDGET, **budget),
        images=images,
        labels=labels,
        device=torch.device("cpu"),
        seed=0,
    )


class Rgb(torch.utils.data.Dataset[Tensor]):
    """Images (N, 1 or 3, H, W) as torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> Tensor:
        return self.images[k]
