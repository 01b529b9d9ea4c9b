"""Ancestral sampling of a discrete-time Gaussian diffusion: the baseline of everything here.

Paper: Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239.
Saves: nothing; it sets the price that the others are compared with.
Differs: fewer than 1000 steps use the respaced chain, whose variances follow from the kept steps.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Heading
from bench.contract import Denoiser, Kit, LikelihoodStrategy, Request
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ancestral, start
from bench.registry import register


class ReverseVariance(StrEnum):
    """Section 3.2: beta, optimal for unit-normal data, or beta tilde, optimal for a single point."""

    LARGE = "large"
    SMALL = "small"


VARIANCES = {ReverseVariance.LARGE: forward_variance, ReverseVariance.SMALL: posterior_variance}


@register
@final
@dataclass(frozen=True, kw_only=True)
class DDPM(LikelihoodStrategy[Denoiser]):
    """`steps` of T = 1000 (section 4); `variance` (section 3.2, small is the better of the two at few steps); `clip` of x0 to [-1, 1]."""

    steps: int = 250
    variance: ReverseVariance = ReverseVariance.SMALL
    clip: bool = True

    card: ClassVar[Card] = Card(
        title="DDPM",
        paper="Denoising Diffusion Probabilistic Models",
        year=2020,
        arxiv="2006.11239",
        heading=Heading.STATE_SPACE,
        rows=("I-08", "I-28"),
        saves="nothing: the baseline",
        likelihood=f"variational bound of the chain actually sampled, {SAMPLED}",
        assets=(AssetName.DENOISER,),
        sampling_fields=("steps", "variance", "clip"),
        sweep=({"steps": 10}, {"steps": 50}, {"steps": 250}),
    )

    def __post_init__(self) -> None:
        some(self.steps)

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws, sigmas = request.draws(), leading(model.sigmas, self.steps)
        x = start(draws, model.space.state(request.shape), sigmas[0])
        variance = VARIANCES[self.variance]
        return model.space.decode(ancestral(model, x, sigmas, request.labels, draws, variance, self.clip), request.shape)

    def bits_per_dim(self, model: Denoiser, images: Tensor, request: Request) -> Tensor:
        x0, sigmas = model.space.encode(images), leading(model.sigmas, self.steps)
        nats = gaussian_bound(model, x0, sigmas, request.labels, request.draws(), VARIANCES[self.variance], self.clip)
        return bits_per_dim(nats, request.shape)
