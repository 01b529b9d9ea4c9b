"""Images as solutions of a reverse-time SDE, or of the probability-flow ODE with the same marginals, which has a likelihood too.

Paper: Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021, "Score-Based Generative Modeling through Stochastic Differential Equations",
    arXiv 2011.13456.
Saves: steps, without training: solvers of differential equations need fewer than the thousand of the chain.
Differs: the score is that of the shared network, trained at the thousand times of the chain, at times between them (as in the paper's row
    "DDPM" of table 2); a fixed grid of Heun's steps of equal noise ratios solves the flow in place of adaptive RK45, whose steps depend on
    the batch; the corrector's step takes the norms of each image, as in algorithm 5, not their means over the batch; a chain's b follows
    from the times kept and stays below 1; the image is E[x0 | y] at the last time. The likelihood is solved to 1e-4 in place of 1e-5.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, LikelihoodStrategy, Request
from bench.diffusion.grids import span
from bench.diffusion.likelihood import bits_per_dim
from bench.diffusion.solvers import sde
from bench.diffusion.solvers.flow import flow_likelihood
from bench.registry import register

TOLERANCE = 1e-4  # of the likelihood's solver


class Sampler(StrEnum):
    """Table 1's predictors, and Euler and Maruyama's, the paper's choice for continuous times (appendix H.2)."""

    PROBABILITY_FLOW = "probability_flow"
    EULER_MARUYAMA = "euler_maruyama"
    REVERSE_DIFFUSION = "reverse_diffusion"
    ANCESTRAL = "ancestral"


PREDICTORS = {
    Sampler.PROBABILITY_FLOW: sde.probability_flow,
    Sampler.EULER_MARUYAMA: sde.euler_maruyama,
    Sampler.REVERSE_DIFFUSION: sde.reverse_diffusion,
    Sampler.ANCESTRAL: sde.ancestral,
}


@register
@final
@dataclass(frozen=True, kw_only=True)
class ScoreSDE(LikelihoodStrategy[Denoiser]):
    """`sampler`; `steps`, the times it stops at (1000 in table 1; a step between two of them is one evaluation, of the flow two, and the
    last time is one more); `corrections` M of Langevin a step (algorithm 1; table 1: 0 and 1); their signal-to-noise ratio `snr` (table 5).
    """

    sampler: Sampler = Sampler.PROBABILITY_FLOW
    steps: int = 25
    corrections: int = 0
    snr: float = 0.01

    card: ClassVar[Card] = Card(
        title="Score SDE",
        paper="Score-Based Generative Modeling through Stochastic Differential Equations",
        year=2021,
        arxiv="2011.13456",
        heading=Heading.SCORE_SDE,
        rows=("T-02",),
        saves="sampling steps, without training",
        likelihood=f"probability-flow ODE, RK45 at rtol = atol = {TOLERANCE:g}, one Rademacher probe, uniform dequantisation",
        assets=(AssetName.DENOISER,),
        needs=(Need.POSTERIOR_MEAN,),
        sampling_fields=("sampler", "steps", "corrections", "snr"),
        sweep=(
            {"sampler": "probability_flow", "steps": 25},
            {"sampler": "euler_maruyama", "steps": 100},
            {"sampler": "reverse_diffusion", "steps": 50, "corrections": 1},
        ),
        claims=(
            Claim(
                text="the probability flow is better than Euler and Maruyama's SDE, with fewer evaluations",
                metric="fd",
                params={"sampler": "probability_flow", "steps": 25},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.score_sde.pf_ode",
                baseline_params={"sampler": "euler_maruyama", "steps": 100},
                figure="CIFAR-10, VP-deep: FID 2.86 of RK45 at 145 evaluations against 25.05 of Euler and Maruyama at 180",
                source="arXiv 2105.14080, table 1",
                verified=True,
            ),
            Claim(
                text="for one network the flow's likelihood is better than the variational bound",
                metric="nll_bits_per_dim",
                params={"sampler": "probability_flow", "steps": 25},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 250},
                figure="CIFAR-10, DDPM's network: 3.28 bits/dim against at most 3.75",
                source="arXiv 2011.13456, table 2",
                verified=False,
            ),
        ),
    )

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= 4000:
            raise ValueError(f"steps must lie in 2..4000, not {self.steps}")
        if self.corrections < 0 or self.snr <= 0:
            raise ValueError(f"corrections must not be negative and snr must be positive, not {self.corrections} and {self.snr}")

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws, predictor = request.draws(), PREDICTORS[self.sampler]
        y = draws.normal(*model.space.state(request.shape))
        x0 = sde.predict_correct(model, y, self.times(model.sigmas), request.labels, draws, predictor, self.corrections, self.snr)
        return model.space.decode(x0, request.shape)

    def bits_per_dim(self, model: Denoiser, images: Tensor, request: Request) -> Tensor:
        x0 = model.space.encode(images)
        found = flow_likelihood(model, x0, request.labels, request.draws(), known_span(model.sigmas), tolerance=TOLERANCE)
        return bits_per_dim(found.nats, request.shape)

    def times(self, sigmas: Tensor) -> Tensor:
        """The flow's in equal ratios of noise, on any chain; those of an SDE equally spaced, on the chain whose limit it is."""
        if self.sampler is Sampler.PROBABILITY_FLOW:
            return sde.equal_ratios(self.steps, known_span(sigmas))
        return sde.equal_times(self.steps)


def known_span(sigmas: Tensor) -> tuple[float, float]:
    """(lowest, highest) sigma of the SDE, as far as the network's chain (T,) reaches."""
    (low, high), (least, most) = sde.sigma_span(), span(sigmas)
    return max(low, least), min(high, most)
