"""A sampler of few steps whose coefficients are learned by differentiating through all of them: differentiable diffusion sampler search.

Paper: Watson, Chan, Ho & Norouzi 2022, "Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality",
    arXiv 2202.05830.
Saves: steps, for a search over some K^2 numbers behind a frozen network; the network is not trained.
Differs: the features of the kernel distance are those of the shared noisy classifier at sigma = 0, as no reported score may be tuned on;
    coefficients are unconstrained displacements from DDIM, in place of sigmoids and softmaxes, which cannot express where they start;
    the search is some 40 to 100 batches long, about half of the base training in time, not 50,000 batches of 512.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, Request, Strategy
from bench.diffusion.denoisers.parametrise import Held
from bench.diffusion.grids import leading_times
from bench.nets.classifier import NoisyClassifier
from bench.registry import register
from bench.training.train import train
from strategies.eps.noise.ggdm.sampler import Plan, follow
from strategies.eps.noise.ggdm.search import Displacements, Features, moments, search_loss


class Told(StrEnum):
    """What the network is told of a state: its marginal given x0, by theorem 1; or what is learned, the paper's +PRED+TIME."""

    MARGINAL = "marginal"
    LEARNED = "learned"


PLANS = {Told.MARGINAL: Displacements.implied, Told.LEARNED: Displacements.free}


class PlannedSampler(nn.Module):
    """The shared denoiser with a plan of its calls."""

    start: Tensor
    w: Tensor
    shift: Tensor
    noise: Tensor
    scale: Tensor
    level: Tensor

    def __init__(self, denoiser: Denoiser, plan: Plan) -> None:
        super().__init__()
        self.denoiser = denoiser
        for name, values in vars(plan).items():
            self.register_buffer(name, values.detach().clone())

    def plan(self) -> Plan:
        return Plan(start=self.start, w=self.w, shift=self.shift, noise=self.noise, scale=self.scale, level=self.level)


@register
@final
@dataclass(frozen=True, kw_only=True)
class GGDM(Strategy[PlannedSampler]):
    """`steps` K (table 1: 5 to 25); `told` (section 4.2); `lr` of Adam; `share` of the base training's images, spent in evaluations."""

    steps: int = 5
    told: Told = Told.LEARNED
    lr: float = 0.02
    share: float = 0.5

    card: ClassVar[Card] = Card(
        title="GGDM",
        paper="Learning Fast Samplers for Diffusion Models by Differentiating Through Sample Quality",
        year=2022,
        arxiv="2202.05830",
        heading=Heading.NOISE,
        rows=("I-15", "II-07"),
        saves="sampling steps, for a search over the sampler alone",
        likelihood="not applicable: the sampler is tuned for samples, and its marginals are not those of the training",
        assets=(AssetName.DENOISER, AssetName.NOISY_CLASSIFIER),
        needs=(Need.TRAINING, Need.IMAGES, Need.PIXELS),
        sweep=({"steps": 4}, {"steps": 10}),
        claims=tuple(
            Claim(
                text=f"at {steps} steps the learned sampler is better than DDIM with {spacing} times",
                metric="fd",
                params={"steps": steps, "told": "learned"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": steps, "spacing": spacing},
                figure=figure,
                source="arXiv 2202.05830, table 1",
                verified=True,
            )
            for steps, spacing, figure in (
                (4, "uniform", "CIFAR-10, 5 steps: FID 13.77 against 32.66 of DDIM with quadratic times"),
                (10, "quadratic", "CIFAR-10: FID 8.23 against 13.62 of DDIM with quadratic times"),
            )
        ),
    )

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= 50:
            raise ValueError(f"steps must lie in 2..50, not {self.steps}")
        if self.lr <= 0 or self.share <= 0:
            raise ValueError(f"lr and share must be positive, not {self.lr} and {self.share}")

    def fit(self, kit: Kit) -> PlannedSampler:
        denoiser, features = kit.denoiser(), tuning_features(kit)
        with torch.no_grad():
            real = moments(torch.cat([features(denoiser.space.encode(part)) for part in kit.images.split(512)]))
        free = Displacements(leading_times(self.steps, len(denoiser.sigmas)).to(kit.device), denoiser.sigmas)
        loss = search_loss(lambda: PLANS[self.told](free), Held(denoiser), features, real)
        seen = round(self.share * kit.budget.train_images / self.steps)
        found = train(free, loss, kit, images_seen=seen, what=f"GGDM search, {self.steps} steps", lr=self.lr)
        return PlannedSampler(denoiser, PLANS[self.told](found)).eval()

    def sample(self, model: PlannedSampler, request: Request) -> Tensor:
        x = follow(Held(model.denoiser), model.plan(), request.labels, request.draws(), model.denoiser.space.state(request.shape))
        return model.denoiser.space.decode(x, request.shape)


def tuning_features(kit: Kit) -> Features:
    """The last hidden layer of the shared noisy classifier, told that there is no noise."""
    classifier = kit.noisy_classifier()
    assert isinstance(classifier, NoisyClassifier)
    return lambda x: classifier.both(x, torch.zeros(len(x), dtype=torch.float64, device=x.device))[0]
