"""Ancestral sampling whose variances are the optimal ones, computed from the mean square of the noise that the network predicts.

Paper: Bao, Li, Zhu & Zhang 2022, "Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models",
    arXiv 2201.06503.
Saves: steps, without training, for one pass over a few images at each level.
Differs: the mean squares are regressed on those of the noise drawn, so that fewer images suffice; even steps are DDIM's (T / K apart, from
    time 0), as in the paper's appendix G.7, in place of a grid that ends at T. Under DDIM's mean it is `eps.training.analytic_ddim`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Kit, LikelihoodStrategy, Request
from bench.diffusion.grids import at, leading, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ancestral, start
from bench.diffusion.solvers.analytic import AnalysedChain, gentle_end
from bench.diffusion.solvers.stride import LONGEST
from bench.registry import register
from bench.training.levels import spread_by_level

ETA = 1.0  # the forward process of DDPM


class Path(StrEnum):
    """Section 6: even steps, or those of the least divergence from the last time down to the first, which all chains here end with."""

    EVEN = "even"
    OPTIMAL = "optimal"


@register
@final
@dataclass(frozen=True, kw_only=True)
class AnalyticDPM(LikelihoodStrategy[AnalysedChain]):
    """`steps`, `path` (section 6), `clip` of x0, the last noise's bound in `grey_levels` (appendix F.2: 2 under DDPM's mean);
    `share` of the training budget for the mean squares (table 5: 10 to 100 images a level are as good as 50,000).
    """

    steps: int = 10
    path: Path = Path.EVEN
    clip: bool = True
    grey_levels: float = 2.0
    share: float = 0.2

    card: ClassVar[Card] = Card(
        title="Analytic-DPM",
        paper="Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models",
        year=2022,
        arxiv="2201.06503",
        heading=Heading.TRAINING,
        rows=("T-06",),
        saves="sampling steps, without training",
        likelihood=f"variational bound of the chain sampled, with its last variance as it was before it is held, {SAMPLED}",
        assets=(AssetName.DENOISER,),
        needs=(Need.IMAGES, Need.PIXELS, Need.POSTERIOR_MEAN),
        sampling_fields=("steps", "path", "clip", "grey_levels"),
        sweep=({"steps": 10}, {"steps": 10, "path": "optimal"}),
        claims=(
            Claim(
                text="at 10 even steps the optimal variance gives a better bound than beta tilde",
                metric="nll_bits_per_dim",
                params={"steps": 10, "path": "even"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 10, "variance": "small"},
                figure="CIFAR-10 (LS) 5.47 bits/dim against 74.95",
                source="arXiv 2201.06503, table 1",
                verified=True,
            ),
            Claim(
                text="at 10 even steps it gives a better bound than beta",
                metric="nll_bits_per_dim",
                params={"steps": 10, "path": "even"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eps.scheduling.dp_stride",
                baseline_params={"steps": 10, "path": "even"},
                figure="CIFAR-10 (LS) 5.47 bits/dim against 6.99",
                source="arXiv 2201.06503, table 1",
                verified=True,
            ),
            Claim(
                text="at 10 steps the optimal path gives a better bound than the even one",
                metric="nll_bits_per_dim",
                params={"steps": 10, "path": "optimal"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eps.training.analytic_dpm",
                baseline_params={"steps": 10, "path": "even"},
                figure="CIFAR-10 (LS) 4.11 bits/dim against 5.47",
                source="arXiv 2201.06503, table 1",
                verified=True,
            ),
            Claim(
                text="at 10 even steps the samples are better than with beta tilde",
                metric="fd",
                params={"steps": 10, "path": "even"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.state_space.ddpm",
                baseline_params={"steps": 10, "variance": "small"},
                figure="CIFAR-10 (LS) FID 34.26 against 44.45",
                source="arXiv 2201.06503, table 2",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.path is Path.OPTIMAL and not 2 <= self.steps <= LONGEST:
            raise ValueError(f"steps of an optimal path must lie in 2..{LONGEST}, not {self.steps}")
        if self.share <= 0 or self.grey_levels < 0:
            raise ValueError(f"share must be positive and grey_levels not negative, not {self.share} and {self.grey_levels}")

    def fit(self, kit: Kit) -> AnalysedChain:
        denoiser = kit.denoiser()
        return AnalysedChain(denoiser, *spread_by_level(denoiser, kit, self.share)).eval()

    def sample(self, model: AnalysedChain, request: Request) -> Tensor:
        draws, sigmas = request.draws(), self.sigmas(model)
        x = start(draws, model.denoiser.space.state(request.shape), sigmas[0])
        variance = gentle_end(model.variance(ETA), float(sigmas[-2]), self.grey_levels)
        x = ancestral(model.denoiser, x, sigmas, request.labels, draws, variance, self.clip)
        return model.denoiser.space.decode(x, request.shape)

    def bits_per_dim(self, model: AnalysedChain, images: Tensor, request: Request) -> Tensor:
        sigmas, variance = self.sigmas(model), model.variance(ETA)
        x0 = model.denoiser.space.encode(images)
        nats = gaussian_bound(model.denoiser, x0, sigmas, request.labels, request.draws(), variance, self.clip)
        return bits_per_dim(nats, request.shape)

    def sigmas(self, model: AnalysedChain) -> Tensor:
        """The descending grid (steps + 1,), float64 on the CPU."""
        if self.path is Path.EVEN:
            return leading(model.sigmas, self.steps)
        return at(model.paths[self.steps - 1, : self.steps].long().cpu(), model.sigmas)
