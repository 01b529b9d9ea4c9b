"""What a task asks for on a data set: the frame that every task fills in."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.cards import Task
from bench.contract import Kit, Request
from bench.data.datasets import DataSet
from bench.diffusion.draws import SeededDraws

SEED_STRIDE = 1_000_003  # image k of cell seed s has seed s * stride + k, the same for every strategy


@dataclass(frozen=True, kw_only=True)
class Target:
    """What each image should look like: targets (N, C, H, W) or clips, the original that each belongs to (N,), and what the target is."""

    images: Tensor
    originals: Tensor
    name: str


class Scene(ABC):
    """One task on one data set, on one device. `training` is what strategies see, `reference` what quality is measured against."""

    def __init__(self, data: DataSet, device: torch.device, samples: int, task: Task) -> None:
        """`samples` are drawn of each strategy in all: they share the held-out images among them."""
        self.base, self.device, self.samples, self.task = data, device, samples, task
        self.training = self.reference = data

    def kit(self, kit: Kit) -> Kit:
        """The kit with what strategies may see in this task."""
        seen, workload = self.training, replace(kit.workload, task=self.task)
        return replace(kit, workload=workload, images=seen.train_images.to(self.device), labels=seen.train_labels.to(self.device))

    @abstractmethod
    def request(self, index: Tensor, seed: int, labels: Tensor | None = None) -> Request:
        """Samples `index` (B,) of a cell of this seed; `labels` (B,) where the likelihood of given images is asked for."""

    def labels(self, index: Tensor) -> Tensor:
        """The classes (B,) that samples `index` (B,) are of."""
        return index % self.base.n_classes

    def target(self, _index: Tensor) -> Target | None:
        """What samples `index` (N,) should look like, on the CPU; None where nothing is given."""
        return None

    def stills(self, samples: Tensor) -> Tensor:
        """The images (N, C, H, W) whose quality counts, one a sample, so that they are independent."""
        return samples

    def compared(self, samples: Tensor) -> Tensor:
        """The part of samples that was not given to the strategy."""
        return samples

    @property
    def no_copies(self) -> str | None:
        """Why samples that are near to the reference are no copies of what training showed, or None where they may be."""
        return None if self.reference is self.training else "not applicable: training saw none of the real images of this task"

    @property
    def likelihood_of(self) -> tuple[Tensor, Tensor]:
        """Images, or clips, and labels that neither training nor the requests show."""
        return self.reference.test_images, self.reference.test_labels

    def _fields(self, index: Tensor, seed: int, labels: Tensor | None) -> dict[str, Any]:
        """Of a plain request, for requests that show more."""
        plain = self._plain(index, seed, labels)
        return {name: getattr(plain, name) for name in ("seeds", "labels", "shape", "device", "draws")}

    def _plain(self, index: Tensor, seed: int, labels: Tensor | None) -> Request:
        index = index.to(self.device)
        seeds = seed * SEED_STRIDE + index
        return Request(
            seeds=seeds,
            labels=self.labels(index).to(self.device) if labels is None else labels,
            shape=self.base.shape,
            device=self.device,
            draws=lambda: SeededDraws(seeds),
        )

    def _original(self, index: Tensor) -> Tensor:
        """The held-out image that samples `index` (B,) start from: those of one stand together, so that blocks of samples share none."""
        held_out = len(self.base.test_images)
        return index.cpu() * held_out // self.samples % held_out
