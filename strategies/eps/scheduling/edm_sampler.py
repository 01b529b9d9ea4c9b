"""The stochastic Heun sampler on a network that was trained without it.

Paper: Karras, Aittala, Aila & Laine 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv 2206.00364.
Saves: evaluations, without training: steps of second order, on levels that crowd at low noise; fresh noise mends their errors.
Differs: the shared network, trained at the thousand times of the chain, is asked at times between them, not at the nearest (the paper: VP
    models between, iDDPM and ADM at the nearest); levels end at its lowest, 0.01.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Relation
from bench.contract import Denoiser, Kit, Request, Strategy
from bench.diffusion.grids import rho_levels
from bench.diffusion.solvers.churn import Churn, churned
from bench.registry import register


@register
@final
@dataclass(frozen=True, kw_only=True)
class EDMSampler(Strategy[Denoiser]):
    """`steps`, 2 steps - 1 evaluations; levels from `sigma_max` down by `rho` (eq. 5, table 1); `s_churn`, 0 where deterministic, `s_min`,
    `s_max` and `s_noise` of the fresh noise (algorithm 2; table 5's for the VP network of CIFAR-10, as remembered: not verified).
    """

    steps: int = 18
    sigma_max: float = 80.0
    rho: float = 7.0
    s_churn: float = 30.0
    s_min: float = 0.01
    s_max: float = 1.0
    s_noise: float = 1.007

    card: ClassVar[Card] = Card(
        title="EDM sampler",
        paper="Elucidating the Design Space of Diffusion-Based Generative Models",
        year=2022,
        arxiv="2206.00364",
        heading=Heading.SCHEDULING,
        rows=("II-26",),
        saves="evaluations, without training",
        likelihood="inherited: the likelihood is that of the base model's flow, see Score SDE",
        assets=(AssetName.DENOISER,),
        sampling_fields=("steps", "sigma_max", "rho", "s_churn", "s_min", "s_max", "s_noise"),
        sweep=({"steps": 18, "s_churn": 0.0}, {"steps": 18}, {"steps": 50}),
        claims=(
            Claim(
                text="with fresh noise a network's samples are better than by the ancestral sampler that it was trained for",
                metric="fd",
                params={"steps": 50, "s_churn": 30.0},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 250},
                figure="ImageNet 64, the network of ADM: FID 1.55 against 2.07 at 250 evaluations",
                source="arXiv 2206.00364, abstract",
                verified=True,
            ),
            Claim(
                text="without fresh noise 35 evaluations do for DDIM's network what DDIM does with more",
                metric="fd",
                params={"steps": 18, "s_churn": 0.0},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": 50},
                figure="ImageNet 64, ADM: FID within 3 % of the lowest at 3.2 times fewer evaluations (not verified)",
                source="arXiv 2206.00364, section 3",
                verified=False,
            ),
        ),
    )

    def __post_init__(self) -> None:
        rho_levels(self.steps, self.sigma_max / 2, self.sigma_max, self.rho)  # the lowest level is the network's
        self.churn()

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws, sigmas = request.draws(), rho_levels(self.steps, float(model.sigmas[0]), self.sigma_max, self.rho)
        x = draws.normal(*model.space.state(request.shape)) * float(sigmas[0])
        return model.space.decode(churned(model, x, sigmas, request.labels, draws, self.churn()), request.shape)

    def churn(self) -> Churn:
        return Churn(amount=self.s_churn, low=self.s_min, high=self.s_max, noise=self.s_noise)
