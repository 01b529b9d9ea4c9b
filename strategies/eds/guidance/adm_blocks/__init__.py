"""The architecture of ADM in place of the shared U-Net, at equal parameters: resampling residual blocks, more attention, narrow heads.

Paper: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233.
Saves: nothing per step; better samples for the same parameters, training and steps.
Differs: one residual block a level, as in the shared U-Net; heads of 8 channels, not of 64; the adaptive normalisation is in both networks
    and so not ablated; parameters are kept equal, within 5 %, by narrower levels; the variance is fixed, beta tilde; no guidance.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, LikelihoodStrategy, Request
from bench.data.images import padded
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ancestral, start
from bench.nets.ema import seeded
from bench.registry import register
from bench.training.recipes.denoiser import fit_denoiser
from strategies.eds.guidance.adm_blocks.network import adm_unet_for


@register
@final
@dataclass(frozen=True, kw_only=True)
class ADMBlocks(LikelihoodStrategy[Denoiser]):
    """`steps` of the ancestral chain with the variance beta tilde (section 3 evaluates at 250)."""

    steps: int = 50

    card: ClassVar[Card] = Card(
        title="ADM blocks",
        paper="Diffusion Models Beat GANs on Image Synthesis",
        year=2021,
        arxiv="2105.05233",
        heading=Heading.GUIDANCE,
        rows=("I-01",),
        saves="parameters and training for a given quality",
        needs=(Need.TRAINING,),
        likelihood=f"variational bound of the chain actually sampled, {SAMPLED}",
        sampling_fields=("steps",),
        claims=(
            Claim(
                text="the architecture improves samples at equal parameters, training and steps",
                metric="fd",
                params={"steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 50},
                figure="ImageNet 128: FID 12.19 against 15.33 after 700,000 iterations, parameters not kept equal",
                source="arXiv 2105.05233, table 1",
                verified=False,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)

    def fit(self, kit: Kit) -> Denoiser:
        channels, size, _ = padded(kit.workload.shape)
        with seeded(kit.seed):
            net = adm_unet_for(size, channels, channels, kit.workload.n_classes, kit.budget.width)
        return fit_denoiser(EpsDenoiser(net).to(kit.device), kit, "ADM blocks")

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws, sigmas = request.draws(), leading(model.sigmas, self.steps)
        x = start(draws, model.space.state(request.shape), sigmas[0])
        return model.space.decode(ancestral(model, x, sigmas, request.labels, draws, posterior_variance, clip=True), request.shape)

    def bits_per_dim(self, model: Denoiser, images: Tensor, request: Request) -> Tensor:
        x0, sigmas = model.space.encode(images), leading(model.sigmas, self.steps)
        nats = gaussian_bound(model, x0, sigmas, request.labels, request.draws(), posterior_variance, clip=True)
        return bits_per_dim(nats, request.shape)
