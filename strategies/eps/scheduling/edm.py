"""A network whose input, output and loss are scaled to unit variance at every noise level, sampled by few steps of second order.

Paper: Karras, Aittala, Aila & Laine 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv 2206.00364.
Saves: sampling steps, by Heun's method on levels that crowd at low noise, and training, by levels drawn where there is much to learn.
Differs: the shared U-Net, optimiser and training length; sigma_data is measured on the images (the paper: 0.5); no dropout and no
    augmentation. The likelihood is not the paper's.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Kit, LikelihoodStrategy, Request
from bench.diffusion.denoisers.precondition import PreconditionedDenoiser, data_deviation
from bench.diffusion.grids import rho_levels
from bench.diffusion.likelihood import bits_per_dim
from bench.diffusion.solvers.churn import Churn, churned
from bench.diffusion.solvers.flow import flow_likelihood
from bench.registry import register
from bench.training.noise_prediction import backbone
from bench.training.train import Loss, noise_like, train

TOLERANCE = 1e-4  # of the likelihood's solver
LOWEST = 0.01  # sigma at which the likelihood takes the density: that of other strategies here, about one grey level


@register
@final
@dataclass(frozen=True, kw_only=True)
class EDM(LikelihoodStrategy[PreconditionedDenoiser]):
    """`steps`, 2 steps - 1 evaluations; levels from `sigma_max` to `sigma_min` by `rho` (eq. 5, table 1); `s_churn`, `s_min`, `s_max` and
    `s_noise` of the fresh noise (algorithm 2; those of the paper's ImageNet model, with `s_churn` 40 there and 0 on CIFAR-10); the mean
    `p_mean` and deviation `p_std` of log sigma in training (table 1).
    """

    steps: int = 18
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    s_churn: float = 0.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.003
    p_mean: float = -1.2
    p_std: float = 1.2

    card: ClassVar[Card] = Card(
        title="EDM",
        paper="Elucidating the Design Space of Diffusion-Based Generative Models",
        year=2022,
        arxiv="2206.00364",
        heading=Heading.SCHEDULING,
        rows=("II-26",),
        saves="sampling steps and training",
        needs=(Need.TRAINING,),
        likelihood=f"probability-flow ODE, RK45 at rtol = atol = {TOLERANCE:g}, one Rademacher probe, uniform dequantisation",
        sampling_fields=("steps", "sigma_min", "sigma_max", "rho", "s_churn", "s_min", "s_max", "s_noise"),
        sweep=({"steps": 18},),
        claims=(
            Claim(
                text="35 evaluations give better samples than 50 of DDIM",
                metric="fd",
                params={"steps": 18, "s_churn": 0.0},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.representation.ddim",
                baseline_params={"steps": 50},
                figure="CIFAR-10 FID 1.97 at 35 evaluations against 4.67 of DDIM at 50 and 4.16 at 100",
                source="arXiv 2206.00364, abstract; arXiv 2010.02502, table 1",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        self.sigmas()
        self.churn()
        if self.p_std <= 0:
            raise ValueError(f"p_std must be positive, not {self.p_std}")

    def fit(self, kit: Kit) -> PreconditionedDenoiser:
        denoiser = PreconditionedDenoiser(backbone(kit), data_deviation(kit.images)).to(kit.device)
        loss = denoising_loss(denoiser, self.p_mean, self.p_std)
        return train(denoiser, loss, kit, images_seen=kit.budget.train_images, what="EDM")

    def sample(self, model: PreconditionedDenoiser, request: Request) -> Tensor:
        draws, sigmas = request.draws(), self.sigmas()
        x = draws.normal(*model.space.state(request.shape)) * float(sigmas[0])
        return model.space.decode(churned(model, x, sigmas, request.labels, draws, self.churn()), request.shape)

    def bits_per_dim(self, model: PreconditionedDenoiser, images: Tensor, request: Request) -> Tensor:
        span = LOWEST, self.sigma_max
        found = flow_likelihood(model, model.space.encode(images), request.labels, request.draws(), span, tolerance=TOLERANCE)
        return bits_per_dim(found.nats, request.shape)

    def sigmas(self) -> Tensor:
        return rho_levels(self.steps, self.sigma_min, self.sigma_max, self.rho)

    def churn(self) -> Churn:
        return Churn(amount=self.s_churn, low=self.s_min, high=self.s_max, noise=self.s_noise)


def denoising_loss(denoiser: PreconditionedDenoiser, p_mean: float, p_std: float) -> Loss:
    """E lambda(sigma) |D(x0 + sigma n, sigma) - x0|^2 over log sigma ~ N(p_mean, p_std^2) (eq. 2 and 8, table 1)."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        normal = torch.randn(len(images), generator=generator, device=images.device, dtype=torch.float64)
        sigma = (p_mean + p_std * normal).exp()
        x = images + sigma.to(images.dtype)[:, None, None, None] * noise_like(images, generator)
        error = (denoiser(x, sigma, labels) - images).square().flatten(1).mean(1)
        return (denoiser.weight(sigma).to(images.dtype) * error).mean()

    return loss
