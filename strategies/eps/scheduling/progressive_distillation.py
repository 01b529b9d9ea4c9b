"""A student that takes one step where its teacher takes two, halved again and again.

Paper: Salimans & Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", arXiv 2202.00512.
Saves: steps, down to a few, for a training about as long as the teacher's.
Differs: the shared noise-prediction network is first tuned to predict velocity; the schedule is the shared linear one.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Kit, Request, Strategy
from bench.diffusion.denoisers.parametrise import EpsDenoiser, VDenoiser
from bench.diffusion.gaussian import ddim_mean_batch
from bench.diffusion.grids import some, trailing, trailing_times
from bench.diffusion.loops import ddim, start
from bench.registry import register
from bench.training.train import Loss, noise_like, train


def distillation_target(teacher: Denoiser, x: Tensor, levels: Tensor, labels: Tensor) -> Tensor:
    """The x0 that brings one DDIM step from levels[:, 0] to levels[:, 2] where two of the teacher's, by way of levels[:, 1], arrive.

    Algorithm 2 in the coordinates x = x0 + sigma n; x (B, C, H, W), levels (B, 3) float64, -> (B, C, H, W).
    """
    high, middle, low = levels.unbind(1)
    halfway = ddim_mean_batch(x, teacher(x, high, labels), high, middle)
    arrived = ddim_mean_batch(halfway, teacher(halfway, middle, labels), middle, low)
    ratio = (low / high).to(x.dtype)[:, None, None, None]
    return (arrived - ratio * x) / (1 - ratio)


def truncated_snr(sigma: Tensor) -> Tensor:
    """max(SNR, 1) (section 4, equation 9)."""
    return sigma.pow(-2).clamp_min(1.0)


@register
@final
@dataclass(frozen=True, kw_only=True)
class ProgressiveDistillation(Strategy[Denoiser]):
    """`steps` of the student; `halvings` from the teacher's steps * 2^halvings; shares of the training budget for each phase."""

    steps: int = 4
    halvings: int = 3
    tuning_share: float = 0.3
    halving_share: float = 0.2

    card: ClassVar[Card] = Card(
        title="Progressive distillation",
        paper="Progressive Distillation for Fast Sampling of Diffusion Models",
        year=2022,
        arxiv="2202.00512",
        heading=Heading.SCHEDULING,
        rows=("II-22",),
        saves="sampling steps, for a second training",
        assets=(AssetName.DENOISER,),
        needs=(Need.TRAINING, Need.NOISE_NET),
        sweep=({"steps": 4},),
        likelihood="not applicable: a deterministic few-step sampler defines no bound",
        claims=(
            Claim(
                text="at 4 steps the student is better than DDIM with its teacher",
                metric="fd",
                params={"steps": 4},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": 4},
                figure="CIFAR-10 FID 3.00 at 4 steps against 13.36 of DDIM at 10",
                source="arXiv 2202.00512, table 2",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        if self.halvings < 0 or min(self.tuning_share, self.halving_share) <= 0:
            raise ValueError("halvings must not be negative, and the shares must be positive")
        some(self.steps)

    def fit(self, kit: Kit) -> Denoiser:
        base = kit.denoiser()
        assert isinstance(base, EpsDenoiser)
        table = base.sigmas
        trailing_times(self.steps * 2**self.halvings, len(table))  # refused before anything is trained
        student = VDenoiser(copy.deepcopy(base.net).requires_grad_(True), base.sigmas, base.space).to(kit.device)
        seen = kit.budget.train_images
        student = train(student, tuning_loss(student, table), kit, images_seen=round(self.tuning_share * seen), what="PD velocity", lr=1e-3)
        for round_ in range(1, self.halvings + 1):
            teacher, student = student, copy.deepcopy(student).requires_grad_(True)
            steps = self.steps * 2 ** (self.halvings - round_)
            loss = halving_loss(student, teacher, table, steps)
            what = f"PD {2 * steps} to {steps} steps"
            student = train(student, loss, kit, images_seen=round(self.halving_share * seen), what=what, lr=1e-3, seed=round_)
        return student

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws, sigmas = request.draws(), trailing(model.sigmas, self.steps)
        x = start(draws, model.space.state(request.shape), sigmas[0])
        return model.space.decode(ddim(model, x, sigmas, request.labels, draws), request.shape)


def tuning_loss(student: Denoiser, table: Tensor) -> Loss:
    """Truncated-SNR loss on data, over all of the base schedule's levels."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        sigma = table[torch.randint(len(table), (len(images),), generator=generator, device=images.device)]
        x = images + sigma.float()[:, None, None, None] * noise_like(images, generator)
        error = (student(x, sigma, labels) - images).square().flatten(1).mean(1)
        return (truncated_snr(sigma).float() * error).mean()

    return loss


def halving_loss(student: Denoiser, teacher: Denoiser, table: Tensor, steps: int) -> Loss:
    """Truncated-SNR loss against two teacher steps, over the student's grid of `steps` levels."""
    grid = trailing(table, 2 * steps).to(table.device)  # (2 * steps + 1,), descending to 0

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        first = 2 * torch.randint(steps, (len(images),), generator=generator, device=images.device)
        levels = torch.stack([grid[first], grid[first + 1], grid[first + 2]], dim=1)
        x = images + levels[:, 0].float()[:, None, None, None] * noise_like(images, generator)
        with torch.no_grad():
            target = distillation_target(teacher, x, levels, labels)
        error = (student(x, levels[:, 0], labels) - target).square().flatten(1).mean(1)
        return (truncated_snr(levels[:, 0]).float() * error).mean()

    return loss
