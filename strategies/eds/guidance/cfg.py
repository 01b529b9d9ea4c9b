"""Guidance without a classifier: conditional and unconditional predictions of one network, extrapolated.

Paper: Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv 2207.12598.
Saves: the classifier of guided sampling; costs two network evaluations a step in its place.
Differs: DDIM steps in place of the paper's ancestral ones.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Kit, Request, Strategy
from bench.diffusion.denoisers.parametrise import ClassifierFree
from bench.diffusion.grids import leading, some
from bench.diffusion.loops import ddim, start
from bench.registry import register


@register
@final
@dataclass(frozen=True, kw_only=True)
class CFG(Strategy[ClassifierFree]):
    """`weight` w of equation 6 (0 is conditional sampling; table 1 tries 0 to 4), `steps` of DDIM."""

    weight: float = 1.0
    steps: int = 50

    card: ClassVar[Card] = Card(
        title="CFG",
        paper="Classifier-Free Diffusion Guidance",
        year=2022,
        arxiv="2207.12598",
        heading=Heading.GUIDANCE,
        rows=("I-02",),
        saves="the classifier of guided sampling",
        assets=(AssetName.DENOISER,),
        needs=(Need.CONDITION,),
        sweep=({"weight": 0.0}, {"weight": 1.0}),
        likelihood="not applicable: the guided score is not that of a normalised density",
        claims=(
            Claim(
                text="guidance makes samples more recognisable as their class",
                metric="class_accuracy",
                params={"weight": 1.0},
                relation=Relation.AT_LEAST,
                factor=1.0,
                baseline="eds.guidance.cfg",
                baseline_params={"weight": 0.0},
                figure="ImageNet 64: Inception score 170.1 at w = 1 against 53.7 at w = 0",
                source="arXiv 2207.12598, table 1 (read in notes on the paper)",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.weight < 0:
            raise ValueError(f"weight must not be negative, and is {self.weight}")

    def fit(self, kit: Kit) -> ClassifierFree:
        return ClassifierFree(kit.denoiser(), self.weight).eval()

    def sample(self, model: ClassifierFree, request: Request) -> Tensor:
        draws = request.draws()
        sigmas = leading(model.sigmas, self.steps)
        x = start(draws, model.space.state(request.shape), sigmas[0])
        return model.space.decode(ddim(model, x, sigmas, request.labels, draws), request.shape)
