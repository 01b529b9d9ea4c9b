"""Training that weighs the noise levels where perceptual content is formed.

Paper: Choi, Lee, Shin, Kim, Kim & Yoon 2022, "Perception Prioritized Training of Diffusion Models", arXiv 2204.00227.
Saves: nothing per step; better samples for the same training and the same steps.
Differs: the sampler is DDIM.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, LikelihoodStrategy, Request
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ddim, start
from bench.registry import register
from bench.training.recipes.denoiser import build_denoiser, fit_denoiser


def p2_weight(snr: Tensor, k: float, gamma: float) -> Tensor:
    """1 / (k + SNR)^gamma (equation 8), as it stands, not rescaled."""
    return (k + snr) ** -gamma


@register
@final
@dataclass(frozen=True, kw_only=True)
class P2(LikelihoodStrategy[Denoiser]):
    """`gamma` and `k` of equation 8 (section 4: gamma 0.5 or 1, k 1); `steps` of the sampler."""

    gamma: float = 1.0
    k: float = 1.0
    steps: int = 50

    card: ClassVar[Card] = Card(
        title="P2",
        paper="Perception Prioritized Training of Diffusion Models",
        year=2022,
        arxiv="2204.00227",
        heading=Heading.TRAINING,
        rows=("II-04",),
        saves="training for a given quality",
        needs=(Need.TRAINING,),
        likelihood=f"variational bound of the respaced ancestral chain, {SAMPLED}",
        sampling_fields=("steps",),
        sweep=({"steps": 10}, {"steps": 50}),
        claims=(
            Claim(
                text="the weighting improves samples at equal steps and training",
                metric="fd",
                params={"steps": 50},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": 50},
                figure="FFHQ 256: FID 6.92 against 7.86 at gamma = 0 (the latter not verified)",
                source="arXiv 2204.00227, main table, by way of a leaderboard",
                verified=False,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.gamma < 0 or self.k <= 0:
            raise ValueError(f"gamma must not be negative and k must be positive, not {self.gamma} and {self.k}")

    def fit(self, kit: Kit) -> Denoiser:
        return fit_denoiser(build_denoiser(kit), kit, "P2 denoiser", lambda snr: p2_weight(snr, self.k, self.gamma))

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws, sigmas = request.draws(), leading(model.sigmas, self.steps)
        x = start(draws, model.space.state(request.shape), sigmas[0])
        return model.space.decode(ddim(model, x, sigmas, request.labels, draws), request.shape)

    def bits_per_dim(self, model: Denoiser, images: Tensor, request: Request) -> Tensor:
        draws = request.draws()
        x0, sigmas = model.space.encode(images), leading(model.sigmas, self.steps)
        nats = gaussian_bound(model, x0, sigmas, request.labels, draws, posterior_variance, clip=True)
        return bits_per_dim(nats, request.shape)
