"""The protocol `Draws` for training, from the training generator."""

import torch
from torch import Tensor


class BatchDraws:
    """The `Draws` of one training batch of `count` images, from the training generator."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self._count, self._generator = count, generator

    def normal(self, *shape: int) -> Tensor:
        generator = self._generator
        return torch.randn((self._count, *shape), generator=generator, device=generator.device)

    def uniform(self, *shape: int) -> Tensor:
        generator = self._generator
        return torch.rand((self._count, *shape), generator=generator, device=generator.device)
