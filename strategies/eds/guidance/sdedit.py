"""Editing by noising a guide half-way and denoising it again.

Paper: Meng, He, Song, Song, Wu, Zhu & Ermon 2022, "SDEdit: Guided Image Synthesis and Editing with SDEs", arXiv 2108.01073.
Saves: training for the task, and the steps above the starting level: a share `strength` of the chain is run.
Differs: no mask, as the task has none; a respaced chain, with the small variance and x0 clipped, in place of the thousand steps with the
    large one; the network is told the class of the guide (the paper's are unconditional).
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Edit, Heading, Relation
from bench.contract import Denoiser, EditRequest, Kit, Request, Strategy
from bench.diffusion.conditioning.editing import edited
from bench.diffusion.grids import leading, some
from bench.registry import register

TRADE_OFF = "KID falls and the squared L2 distance to the guide grows with t0 (LSUN strokes; sweet spot 0.3 to 0.6)"
READ_AT = "arXiv 2108.01073, figure 3 and section 3"


@register
@final
@dataclass(frozen=True, kw_only=True)
class SDEdit(Strategy[Denoiser]):
    """`strength` t0 (figure 3: 0.3 to 0.6; small images need less), `steps` of the whole chain of T = 1000, `repeats` K (algorithm 4).

    An image takes K t0 `steps` evaluations; its guide, after the first time the last image, is noised to the level of the
    highest time kept.
    """

    strength: float = 0.5
    steps: int = 50
    repeats: int = 1

    card: ClassVar[Card] = Card(
        title="SDEdit",
        paper="SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations",
        year=2022,
        arxiv="2108.01073",
        heading=Heading.GUIDANCE,
        rows=("I-03",),
        saves="training for the task, and the steps above the guide's noise level",
        likelihood="not applicable: images are drawn given a guide",
        tasks=(Edit(),),
        assets=(AssetName.DENOISER,),
        sampling_fields=("strength", "steps", "repeats"),
        sweep=({"strength": 0.5}, {"strength": 0.3}, {"strength": 0.1}),
        claims=(
            Claim(
                text="the later the chain is entered, the nearer the image stays to the guide",
                metric="psnr",
                params={"strength": 0.1},
                relation=Relation.AT_LEAST,
                factor=1.0,
                baseline="eds.guidance.sdedit",
                baseline_params={"strength": 0.5},
                figure=TRADE_OFF,
                source=READ_AT,
                verified=True,
            ),
            Claim(
                text="the more noise the guide gets, the more real the images are",
                metric="fd",
                params={"strength": 0.5},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.guidance.sdedit",
                baseline_params={"strength": 0.1},
                figure=TRADE_OFF,
                source=READ_AT,
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must lie above 0 and not above 1, not at {self.strength}")
        if self.kept < 1:
            raise ValueError(f"strength {self.strength} keeps none of {self.steps} steps")
        if self.repeats < 1:
            raise ValueError(f"repeats must be 1 or more, not {self.repeats}")

    @property
    def kept(self) -> int:
        """Steps that are run, t0 of all."""
        return round(self.strength * self.steps)

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        assert isinstance(request, EditRequest)
        x = edited(model, model.space.encode(request.guides), self.levels(model.sigmas), request.labels, request.draws(), self.repeats)
        return model.space.decode(x, request.shape)

    def levels(self, sigmas: Tensor) -> Tensor:
        """The lower end (kept + 1,) of the levels of the whole chain."""
        return leading(sigmas, self.steps)[-self.kept - 1 :]
