"""Control, the simplest restoration by diffusion: DDIM whose observed directions are overwritten with the observation at every step.

Paper: the replacement method of Song et al. 2021, arXiv 2011.13456, appendix I.2, with a deterministic step in place of the SDE's.
Saves: training for each task.
Differs: takes observations for exact, so that their noise stays in the picture.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import RESTORATIONS, AssetName, Card, Heading, Need
from bench.contract import Denoiser, Kit, Request, RestoreRequest, Strategy
from bench.diffusion.conditioning.restoration import Evidence, restored
from bench.diffusion.grids import leading, some
from bench.registry import register


@register
@final
@dataclass(frozen=True, kw_only=True)
class Replacement(Strategy[Denoiser]):
    """`steps` of DDIM."""

    steps: int = 100

    card: ClassVar[Card] = Card(
        title="Replacement (control)",
        paper="Score-Based Generative Modeling through SDEs",
        year=2021,
        arxiv="2011.13456",
        heading=Heading.CONTROL,
        rows=(),
        saves="training for each degradation",
        tasks=RESTORATIONS,
        assets=(AssetName.DENOISER,),
        needs=(Need.PIXELS, Need.POSTERIOR_MEAN),
        sampling_fields=("steps",),
        likelihood="not applicable: a sampler of restorations, whose density is not known",
    )

    def __post_init__(self) -> None:
        some(self.steps)

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        assert isinstance(request, RestoreRequest)
        evidence = Evidence.of(request.operator, request.observed, noise_std=0.0)
        sigmas = leading(model.sigmas, self.steps)
        shape = model.space.state(request.shape)
        x = restored(model, evidence, sigmas, request.labels, request.draws(), shape, eta=0.0, eta_b=1.0)
        return model.space.decode(x, request.shape)
