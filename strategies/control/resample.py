"""Control, the ceiling: training images of the asked class, drawn at random.

Paper: none; it shows what the metrics give to a model that memorises, and how far sampling noise alone goes.
Saves: everything; costs a copy of the training set.
Differs: -
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import Card, Heading, Need
from bench.contract import Kit, Request, Strategy
from bench.registry import register


class Album(nn.Module):
    """The training images (N, C, H, W) sorted by class, with each class's first index and size (n_classes,)."""

    images: Tensor
    first: Tensor
    size: Tensor

    def __init__(self, images: Tensor, labels: Tensor, n_classes: int) -> None:
        super().__init__()
        sizes = labels.bincount(minlength=n_classes)
        self.register_buffer("images", images[labels.argsort(stable=True)])
        self.register_buffer("first", sizes.cumsum(0) - sizes)
        self.register_buffer("size", sizes)


@register
@final
@dataclass(frozen=True, kw_only=True)
class Resample(Strategy[Album]):
    """No hyper-parameters."""

    card: ClassVar[Card] = Card(
        title="Resampled training images (ceiling)",
        paper="control: not a published system",
        year=2026,
        arxiv=None,
        heading=Heading.CONTROL,
        rows=(),
        saves="everything: no network",
        needs=(Need.IMAGES,),
        likelihood="not applicable: a finite set of images has no density",
    )

    def fit(self, kit: Kit) -> Album:
        return Album(kit.images, kit.labels, kit.workload.n_classes)

    def sample(self, model: Album, request: Request) -> Tensor:
        place = request.draws().uniform(1)[:, 0] * model.size[request.labels]
        return model.images[model.first[request.labels] + place.to(torch.int64)]
