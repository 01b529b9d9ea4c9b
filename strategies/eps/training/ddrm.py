"""Restoration with a denoiser that knows nothing of the degradation, along the singular directions of a known degradation.

Paper: Kawar, Elad, Ermon & Song 2022, "Denoising Diffusion Restoration Models", arXiv 2201.11793.
Saves: training for each task, and steps: 20 evaluations where other samplers of the posterior take hundreds.
Differs: the network is told the class, as its class-conditional models are; singular values of a blur below 0.03 count as zero, as in
    its code; the hole and the blur are sized for small images.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import RESTORATIONS, AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, Request, RestoreRequest, Strategy
from bench.diffusion.conditioning.restoration import Evidence, restored
from bench.diffusion.grids import leading, some
from bench.registry import register


@register
@final
@dataclass(frozen=True, kw_only=True)
class DDRM(Strategy[Denoiser]):
    """`steps`, `eta` of directions not observed, `eta_b` of those observed with less noise than the level has (section 5: 20, 0.85, 1)."""

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0

    card: ClassVar[Card] = Card(
        title="DDRM",
        paper="Denoising Diffusion Restoration Models",
        year=2022,
        arxiv="2201.11793",
        heading=Heading.TRAINING,
        rows=("II-05",),
        saves="training for each degradation, and sampling steps",
        tasks=RESTORATIONS,
        assets=(AssetName.DENOISER,),
        needs=(Need.PIXELS, Need.POSTERIOR_MEAN),
        sampling_fields=("steps", "eta", "eta_b"),
        likelihood="not applicable: a sampler of restorations, whose density is not known",
        claims=(
            Claim(
                text="at 20 evaluations restorations are nearer to the original than those of five times as many steps of replacement",
                metric="psnr",
                params={"steps": 20, "eta": 0.85, "eta_b": 1.0},
                relation=Relation.AT_LEAST,
                factor=1.0,
                baseline="control.replacement",
                baseline_params={"steps": 100},
                figure="ImageNet 256, 4x: PSNR 26.55 dB at 20 evaluations against 26.08 (RED, 100) and 23.06 (DGP, 1500)",
                source="arXiv 2201.11793, table 1",
                verified=True,
            ),
            Claim(
                text="restorations are nearer to real images in features than those of a method without this prior",
                metric="fd",
                params={"steps": 20, "eta": 0.85, "eta_b": 1.0},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="control.pseudo_inverse",
                baseline_params={},
                figure="ImageNet 256, 4x: kernel distance 0.00722 against 0.02122 (DGP) and 0.05355 (RED)",
                source="arXiv 2201.11793, table 1",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise ValueError(f"eta and eta_b must lie in 0..1, not {self.eta} and {self.eta_b}")

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        assert isinstance(request, RestoreRequest)
        evidence = Evidence.of(request.operator, request.observed, request.noise_std)
        sigmas = leading(model.sigmas, self.steps)
        x = restored(model, evidence, sigmas, request.labels, request.draws(), model.space.state(request.shape), self.eta, self.eta_b)
        return model.space.decode(x, request.shape)
