"""DDIM with noise of the optimal variance, computed from the mean square of the noise that the network predicts.

Paper: Bao, Li, Zhu & Zhang 2022, "Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models",
    arXiv 2201.06503.
Saves: steps, without training, for one pass over a few images at each level.
Differs: as `eps.training.analytic_dpm`, which has DDPM's mean.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Kit, Request, Strategy
from bench.diffusion.gaussian import ddim_mean
from bench.diffusion.grids import leading, some
from bench.diffusion.loops import reverse_chain, start
from bench.diffusion.solvers.analytic import Analysed, gentle_end
from bench.registry import register
from bench.training.levels import spread_by_level

ETA = 0.0  # the forward process of DDIM


@register
@final
@dataclass(frozen=True, kw_only=True)
class AnalyticDDIM(Strategy[Analysed]):
    """`steps`, `clip` of x0, the last noise's bound in `grey_levels` (appendix F.2: 1 under DDIM's mean); `share` of the training budget
    for the mean squares (table 5: 10 to 100 images a level are as good as 50,000).
    """

    steps: int = 10
    clip: bool = True
    grey_levels: float = 1.0
    share: float = 0.2

    card: ClassVar[Card] = Card(
        title="Analytic-DDIM",
        paper="Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models",
        year=2022,
        arxiv="2201.06503",
        heading=Heading.TRAINING,
        rows=("T-06",),
        saves="sampling steps, without training",
        likelihood="not applicable: the bound is infinite, as DDIM's forward process has no noise of its own (section 6.1)",
        assets=(AssetName.DENOISER,),
        needs=(Need.IMAGES, Need.PIXELS, Need.POSTERIOR_MEAN),
        sampling_fields=("steps", "clip", "grey_levels"),
        sweep=({"steps": 10}, {"steps": 50}),
        claims=tuple(
            Claim(
                text=f"at {steps} steps the samples are better than DDIM's",
                metric="fd",
                params={"steps": steps},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": steps, "eta": 0.0, "spacing": "uniform"},
                figure=f"CIFAR-10 (LS) FID {ours} against {theirs}",
                source="arXiv 2201.06503, table 2",
                verified=True,
            )
            for steps, ours, theirs in ((10, "14.00", "21.31"), (50, "4.04", "7.74"))
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.share <= 0 or self.grey_levels < 0:
            raise ValueError(f"share must be positive and grey_levels not negative, not {self.share} and {self.grey_levels}")

    def fit(self, kit: Kit) -> Analysed:
        denoiser = kit.denoiser()
        return Analysed(denoiser, *spread_by_level(denoiser, kit, self.share)).eval()

    def sample(self, model: Analysed, request: Request) -> Tensor:
        space = model.denoiser.space
        draws, sigmas, shape = request.draws(), leading(model.sigmas, self.steps), space.state(request.shape)
        variance = gentle_end(model.variance(ETA), float(sigmas[-2]), self.grey_levels)
        mean = partial(ddim_mean, eta=ETA)
        x = start(draws, shape, sigmas[0])
        x = reverse_chain(model.denoiser, x, sigmas, request.labels, lambda _low: draws.normal(*shape), variance, self.clip, mean)
        return space.decode(x, request.shape)
