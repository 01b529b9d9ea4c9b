"""A cascade: a diffusion model of small images, and one that enlarges them under conditioning augmentation.

Paper: Ho, Saharia, Chan, Fleet, Norouzi & Salimans 2021, "Cascaded Diffusion Models for High Fidelity Image Generation", arXiv 2106.15282.
Saves: FLOPs, as most of the steps are taken on small images.
Differs: DDIM steps in place of ancestral ones; one stage of enlargement, by two; the second stage is told the augmentation's level by a
    constant channel; both stages have the shared U-Net's width and see the whole training budget.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Draws, Kit, Request, Strategy
from bench.diffusion.batch import everywhere
from bench.diffusion.denoisers.cascade import FACTOR, Cascade, Given, condition, cut
from bench.diffusion.grids import leading, some
from bench.diffusion.loops import ddim, start
from bench.diffusion.schedules import T
from bench.registry import register
from bench.training.cascade import build_refiner, fit_refiner, fit_small_denoiser, half_blurred, noised, refiner_loss, unchanged


class Augmentation(StrEnum):
    """Section 3: what is done to the small images that the second stage is trained on."""

    NONE = "none"
    GAUSSIAN = "gaussian"
    BLUR = "blur"


class Handover(StrEnum):
    """How the second stage's condition gets its noise: added to a finished small image (section 3.3), or left there (section 3.2)."""

    RENOISED = "renoised"
    TRUNCATED = "truncated"


AUGMENTATIONS = {Augmentation.NONE: unchanged, Augmentation.GAUSSIAN: noised, Augmentation.BLUR: half_blurred}


@register
@final
@dataclass(frozen=True, kw_only=True)
class CDM(Strategy[Cascade]):
    """`steps` of the small stage, `refine_steps` of the second; `augmentation`, the time `s` (0 is none) it is sampled at, `handover`."""

    steps: int = 50
    refine_steps: int = 10
    augmentation: Augmentation = Augmentation.GAUSSIAN
    s: int = 100
    handover: Handover = Handover.RENOISED

    card: ClassVar[Card] = Card(
        title="CDM",
        paper="Cascaded Diffusion Models for High Fidelity Image Generation",
        year=2021,
        arxiv="2106.15282",
        heading=Heading.PYRAMIDAL,
        rows=("I-19",),
        saves="FLOPs of sampling, by steps on small images",
        needs=(Need.TRAINING,),
        sampling_fields=("steps", "refine_steps", "s", "handover"),
        sweep=({}, {"refine_steps": 50}, {"augmentation": "none", "s": 0}),
        likelihood="not applicable: the density of an image is an integral over all small images",
        claims=(
            Claim(
                text="conditioning augmentation improves a cascade",
                metric="fd",
                params={"augmentation": "gaussian", "handover": "renoised", "s": 100, "steps": 50, "refine_steps": 10},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.pyramidal.cdm",
                baseline_params={"augmentation": "none", "steps": 50, "refine_steps": 10},
                figure="ImageNet 64 by way of 16: FID 2.13 at s = 1001 against 6.02 without",
                source="arXiv 2106.15282, ablation of the 16 to 64 cascade (read in notes on the paper)",
                verified=True,
            ),
            Claim(
                text="a cascade is better than a single model of full-size images at equal steps of each stage",
                metric="fd",
                params={"augmentation": "gaussian", "handover": "renoised", "s": 100, "steps": 50, "refine_steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": 50},
                figure="ImageNet 64: FID 2.13 against 2.35",
                source="arXiv 2106.15282, ablation of the 16 to 64 cascade (read in notes on the paper)",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        for steps in (self.steps, self.refine_steps):
            some(steps)
        if not 0 <= self.s <= T:
            raise ValueError(f"s must lie in 0..{T}, not {self.s}")
        if self.s > 0 and self.augmentation is not Augmentation.GAUSSIAN:
            raise ValueError(f"s must be 0 where the augmentation is {self.augmentation}, not {self.s}")

    def fit(self, kit: Kit) -> Cascade:
        base = fit_small_denoiser(kit, "CDM base")
        refiner = build_refiner(kit, told=kit.workload.shape[0] + 1)
        loss = refiner_loss(refiner, AUGMENTATIONS[self.augmentation])
        return Cascade(base, fit_refiner(refiner, loss, kit, "CDM refiner"))

    def sample(self, model: Cascade, request: Request) -> Tensor:
        x = self.cascaded(model, request.draws(), model.base.space.state(request.shape), request.labels)
        return model.base.space.decode(x, request.shape)

    def cascaded(self, model: Cascade, draws: Draws, shape: tuple[int, int, int], labels: Tensor) -> Tensor:
        """Model images (B, *shape) of labels (B,)."""
        small = (shape[0], shape[1] // FACTOR, shape[2] // FACTOR)
        first, second = leading(model.base.sigmas, self.steps), leading(model.refiner.sigmas, self.refine_steps)
        last = 0.0 if self.s == 0 else float(model.base.sigmas[self.s - 1])
        grid = cut(first, last) if self.handover is Handover.TRUNCATED else first
        z = ddim(model.base, start(draws, small, grid[0]), grid, labels, draws)
        if self.handover is Handover.RENOISED and last > 0:
            z = z + last * draws.normal(*small)
        level = everywhere(last, z)
        stage = Given(model.refiner, condition(z, level))
        return ddim(stage, start(draws, shape, second[0]), second, labels, draws)
