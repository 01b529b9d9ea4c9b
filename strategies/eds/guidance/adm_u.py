"""A guided diffusion of small images, and a diffusion model that enlarges them.

Paper: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233.
Saves: FLOPs of guidance, as classifier and guided chain work on small images only.
Differs: enlarges by 2, not by 4; the shared U-Net in both stages, which see the whole training budget each; the variance is fixed, beta
    tilde, not learned; the labels of 10 % of training images are dropped.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Draws, Kit, Request, Strategy
from bench.diffusion.conditioning.guidance import mean_shifted
from bench.diffusion.denoisers.cascade import FACTOR, Cascade, Given, enlarged, shrunk
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.loops import ancestral, start
from bench.diffusion.solvers.reverse_variance import small_variance
from bench.registry import register
from bench.training.cascade import build_refiner, clean, enlarging_loss, fit_refiner, fit_small_denoiser
from bench.training.recipes.noisy_classifier import build_noisy_classifier, fit_noisy_classifier


class GuidedCascade(Cascade):
    """The two stages and the classifier of noised small images."""

    def __init__(self, base: Denoiser, classifier: nn.Module, refiner: Denoiser) -> None:
        super().__init__(base, refiner)
        self.classifier = classifier


@register
@final
@dataclass(frozen=True, kw_only=True)
class ADMU(Strategy[GuidedCascade]):
    """`scale` of the gradient (table 6: 1, or none), `steps` of the small stage and `refine_steps` of the second (250 each)."""

    scale: float = 1.0
    steps: int = 50
    refine_steps: int = 50

    card: ClassVar[Card] = Card(
        title="ADM-U",
        paper="Diffusion Models Beat GANs on Image Synthesis",
        year=2021,
        arxiv="2105.05233",
        heading=Heading.GUIDANCE,
        rows=("I-01",),
        saves="FLOPs of guidance, by guiding small images only",
        needs=(Need.TRAINING, Need.CONDITION),
        sampling_fields=("scale", "steps", "refine_steps"),
        sweep=({}, {"scale": 0.0}),
        likelihood="not applicable: the density of an image is an integral over all small images",
        claims=(
            Claim(
                text="guiding small images and enlarging them improves on guiding full-size ones",
                metric="fd",
                params={"scale": 1.0, "steps": 50, "refine_steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.guidance.adm",
                baseline_params={"form": "ancestral", "variance": "small", "base": "conditional", "scale": 1.0, "steps": 50},
                figure="ImageNet 256 by way of 64: FID 3.94 against 4.59, 250 steps of each stage",
                source="arXiv 2105.05233, table 6",
                verified=True,
            ),
            Claim(
                text="without guidance too, enlarging improves on a single model of full-size images",
                metric="fd",
                params={"scale": 0.0, "steps": 50, "refine_steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 50},
                figure="ImageNet 256 by way of 64: FID 7.49 against 10.94, 250 steps of each stage",
                source="arXiv 2105.05233, table 6",
                verified=True,
            ),
            Claim(
                text="guidance of the small stage improves the enlarged images",
                metric="fd",
                params={"scale": 1.0, "steps": 50, "refine_steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.guidance.adm_u",
                baseline_params={"scale": 0.0, "steps": 50, "refine_steps": 50},
                figure="ImageNet 256 by way of 64: FID 3.94 against 7.49, 250 steps of each stage",
                source="arXiv 2105.05233, table 6",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        for steps in (self.steps, self.refine_steps):
            some(steps)
        if self.scale < 0:
            raise ValueError(f"scale must not be negative, not {self.scale}")

    def fit(self, kit: Kit) -> GuidedCascade:
        base = fit_small_denoiser(kit, "ADM-U base")
        classifier = fit_noisy_classifier(build_noisy_classifier(kit), kit, "ADM-U classifier", shrunk)
        refiner = build_refiner(kit, told=kit.workload.shape[0])
        loss = enlarging_loss(refiner, clean)
        return GuidedCascade(base, classifier, fit_refiner(refiner, loss, kit, "ADM-U upsampler"))

    def sample(self, model: GuidedCascade, request: Request) -> Tensor:
        x = self.stacked(model, request.draws(), model.base.space.state(request.shape), request.labels)
        return model.base.space.decode(x, request.shape)

    def stacked(self, model: GuidedCascade, draws: Draws, shape: tuple[int, int, int], labels: Tensor) -> Tensor:
        """Model images (B, *shape) of labels (B,)."""
        small = (shape[0], shape[1] // FACTOR, shape[2] // FACTOR)
        first, second = leading(model.base.sigmas, self.steps), leading(model.refiner.sigmas, self.refine_steps)
        z = start(draws, small, first[0])
        z = mean_shifted(small_variance(model.base, labels), model.classifier, self.scale, z, first, labels, draws)
        stage = Given(model.refiner, enlarged(z))
        return ancestral(stage, start(draws, shape, second[0]), second, labels, draws, posterior_variance, clip=True)
