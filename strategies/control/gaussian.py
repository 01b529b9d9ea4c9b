"""Control, the floor: each pixel an independent normal with the training images' mean and variance.

Paper: none; whatever cannot beat it has learnt nothing but two moments.
Saves: everything; no network.
Differs: -
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from bench.cards import Card, Heading, Need
from bench.contract import Kit, LikelihoodStrategy, Request
from bench.data.images import to_uint8
from bench.diffusion.likelihood import bits_per_dim, discretised_gaussian
from bench.registry import register

SMALLEST_SD = 1 / 255  # of pixels that never change: half a grey level


class PixelGaussian(nn.Module):
    """Per-pixel mean and standard deviation (C, H, W) of images in [-1, 1], as buffers."""

    mean: Tensor
    sd: Tensor

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        x = images.float() / 127.5 - 1
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("sd", x.std(0).clamp_min(SMALLEST_SD))


@register
@final
@dataclass(frozen=True, kw_only=True)
class Gaussian(LikelihoodStrategy[PixelGaussian]):
    """No hyper-parameters."""

    card: ClassVar[Card] = Card(
        title="Per-pixel Gaussian (floor)",
        paper="control: not a published system",
        year=2026,
        arxiv=None,
        heading=Heading.CONTROL,
        rows=(),
        saves="everything: no network",
        needs=(Need.IMAGES,),
        likelihood="exact, normals integrated over grey levels",
    )

    def fit(self, kit: Kit) -> PixelGaussian:
        return PixelGaussian(kit.images)

    def sample(self, model: PixelGaussian, request: Request) -> Tensor:
        return to_uint8(model.mean + model.sd * request.draws().normal(*request.shape), request.shape)

    def bits_per_dim(self, model: PixelGaussian, images: Tensor, request: Request) -> Tensor:
        x = images.float() / 127.5 - 1
        mean, sd = model.mean.expand_as(x), model.sd.expand_as(x)
        return bits_per_dim(-discretised_gaussian(x, mean, sd).flatten(1).sum(1), request.shape)
