"""The few steps of the chain whose variational bound is the best, found by dynamic programming after training.

Paper: Watson, Ho, Norouzi & Chan 2021, "Learning to Efficiently Sample from Diffusion Probabilistic Models", arXiv 2106.03802.
Saves: steps for a given bound, without training, for one pass over some images at each level.
Differs: the reweighted bound of appendix A.3 is left out. Quadratic steps end at 0.8 T, as DDIM's do, and lose those that coincide.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, LikelihoodStrategy, Request
from bench.diffusion.gaussian import forward_variance
from bench.diffusion.grids import at, leading, quadratic, some
from bench.diffusion.likelihood import SAMPLED, bits_per_dim, gaussian_bound
from bench.diffusion.loops import ancestral, start
from bench.diffusion.solvers.stride import LONGEST, cheapest_paths, step_costs
from bench.registry import register
from bench.training.levels import bound_by_level


class Path(StrEnum):
    """Section 5: the two strides that are compared with, those of DDIM, and the optimal path."""

    EVEN = "even"
    QUADRATIC = "quadratic"
    OPTIMAL = "optimal"


GRIDS = {Path.EVEN: leading, Path.QUADRATIC: quadratic}


class Strided(nn.Module):
    """A denoiser with the optimal paths: row K - 1 of `paths` (K', K') begins with K descending times; (0, 0) where none were sought."""

    paths: Tensor

    def __init__(self, denoiser: Denoiser, paths: Tensor) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("paths", paths)


@register
@final
@dataclass(frozen=True, kw_only=True)
class DPStride(LikelihoodStrategy[Strided]):
    """`steps`, `path` (section 5); `share` of the training budget for the table (section 5.2: 128 images a level are enough)."""

    steps: int = 10
    path: Path = Path.OPTIMAL
    share: float = 0.4

    card: ClassVar[Card] = Card(
        title="DP stride",
        paper="Learning to Efficiently Sample from Diffusion Probabilistic Models",
        year=2021,
        arxiv="2106.03802",
        heading=Heading.SCHEDULING,
        rows=("I-09", "II-19"),
        saves="sampling steps for a given bound, without training",
        likelihood=f"variational bound of the chain actually sampled, {SAMPLED}",
        assets=(AssetName.DENOISER,),
        needs=(Need.IMAGES, Need.PIXELS, Need.POSTERIOR_MEAN),
        sampling_fields=("steps",),
        sweep=({"steps": 10}, {"steps": 10, "path": "quadratic"}, {"steps": 10, "path": "even"}),
        claims=(
            *(
                Claim(
                    text=f"at 10 steps the {ours} path gives a better bound than the {theirs} stride",
                    metric="nll_bits_per_dim",
                    params={"steps": 10, "path": ours},
                    relation=Relation.AT_MOST,
                    factor=1.0,
                    baseline="eps.scheduling.dp_stride",
                    baseline_params={"steps": 10, "path": theirs},
                    figure=f"CIFAR-10 (L_simple) {figure} bits/dim at 8 steps",
                    source="arXiv 2106.03802, table 3",
                    verified=True,
                )
                for ours, theirs, figure in (
                    ("optimal", "quadratic", "4.59 against 5.39"),
                    ("optimal", "even", "4.59 against 6.95"),
                    ("quadratic", "even", "5.39 against 6.95"),
                )
            ),
            Claim(
                text="at 10 steps the samples of the optimal path are worse than those of the quadratic stride",
                metric="fd",
                params={"steps": 10, "path": "optimal"},
                relation=Relation.AT_LEAST,
                factor=1.0,
                baseline="eps.scheduling.dp_stride",
                baseline_params={"steps": 10, "path": "quadratic"},
                figure="CIFAR-10 (L_simple) FID 62.79 against 51.44 at 8 steps",
                source="arXiv 2106.03802, table 5",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        some(self.steps)
        if self.path is Path.OPTIMAL and self.steps > LONGEST:
            raise ValueError(f"steps of an optimal path must lie in 1..{LONGEST}, not {self.steps}")
        if self.share <= 0:
            raise ValueError(f"share must be positive, not {self.share}")

    def fit(self, kit: Kit) -> Strided:
        denoiser = kit.denoiser()
        if self.path is not Path.OPTIMAL:
            return Strided(denoiser, torch.empty(0, 0, dtype=torch.short, device=kit.device)).eval()
        nodes = cheapest_paths(step_costs(*bound_by_level(denoiser, kit, self.share)), LONGEST)[1]
        return Strided(denoiser, (nodes[:, :-1] - 1).short()).eval()  # node 0 is the data, node t + 1 the time t

    def sample(self, model: Strided, request: Request) -> Tensor:
        draws, sigmas = request.draws(), self.sigmas(model)
        x = start(draws, model.denoiser.space.state(request.shape), sigmas[0])
        x = ancestral(model.denoiser, x, sigmas, request.labels, draws, forward_variance, clip=True)
        return model.denoiser.space.decode(x, request.shape)

    def bits_per_dim(self, model: Strided, images: Tensor, request: Request) -> Tensor:
        x0, labels, draws = model.denoiser.space.encode(images), request.labels, request.draws()
        nats = gaussian_bound(model.denoiser, x0, self.sigmas(model), labels, draws, forward_variance, clip=True)
        return bits_per_dim(nats, request.shape)

    def sigmas(self, model: Strided) -> Tensor:
        """The descending grid (steps + 1,), float64 on the CPU."""
        sigmas, grid = model.denoiser.sigmas, GRIDS.get(self.path)
        return grid(sigmas, self.steps) if grid else at(model.paths[self.steps - 1, : self.steps].long().cpu(), sigmas)
