"""Diffusion with a velocity for each pixel: noise enters the velocities alone, and the score to learn is that of velocity given position.

Paper: Dockhorn, Vahdat & Kreis 2022, "Score-Based Generative Modeling with Critically-Damped Langevin Diffusion", arXiv 2112.07068.
Saves: steps, by a score near a normal's and a sampler that splits off all that is linear; its network reads twice the channels.
Differs: the shared U-Net, conditional on the class; no evaluation for the last denoising step, whose position does not depend on it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import Card, Claim, Heading, Need, Relation
from bench.contract import Kit, Request, Strategy
from bench.data.images import padded, to_uint8
from bench.diffusion.batch import everywhere
from bench.nets.unet import UNet
from bench.registry import register
from bench.training.noise_prediction import backbone
from bench.training.train import Loss, noise_like, train
from strategies.eds.score_sde.cld.langevin import Kernel, Langevin, at_rest, euler_maruyama, kernel, perturbed, quadratic_steps, sscs

FIRST_TIME = 1e-5  # of training, as in the authors' configuration


class Integrator(StrEnum):
    """Section 3.3: the symmetric splitting sampler, or Euler and Maruyama's, with which the paper compares it."""

    SSCS = "sscs"
    EULER = "euler"


INTEGRATORS = {Integrator.SSCS: sscs, Integrator.EULER: euler_maruyama}


class LangevinModel(nn.Module):
    """The network (B, 2C, H, W) -> (B, C, H, W) of the residual alpha' (section 3.2), with its process."""

    def __init__(self, net: UNet, process: Langevin) -> None:
        super().__init__()
        self.net, self.process = net, process

    def kernel(self, t: Tensor) -> Kernel:
        """That of hybrid score matching from x0 to times t (B,), its entries (B, 1, 1, 1)."""
        return kernel(self.process, t[:, None, None, None], self.process.gamma)

    def noise(self, state: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """(alpha (B, C, H, W), 1 / l_t (B, 1, 1, 1)) at times t (B,).

        alpha is the noise expected in the velocity: v / (l_t S_vv), right for a normal (section 3.2), and the network's correction.
        """
        step = self.kernel(t)
        normal = (step.chol_vv / step.variance_v).to(state.dtype) * state.chunk(2, dim=1)[1]
        return normal + self.net(state, (1000 * t).to(state.dtype), labels), step.chol_vv.to(state.dtype)

    def score(self, state: Tensor, time: float, labels: Tensor | None) -> Tensor:
        """-l_t alpha, the gradient (B, C, H, W) of the log-density with respect to the velocity."""
        alpha, deviation = self.noise(state, everywhere(time, state), labels)
        return -alpha / deviation


@register
@final
@dataclass(frozen=True, kw_only=True)
class CLD(Strategy[LangevinModel]):
    """`inverse_mass` 1 / M (table 4), `beta` (section 5), `gamma` (table 5); `steps`, quadratic in time, of the `sampler` (table 3)."""

    steps: int = 50
    sampler: Integrator = Integrator.SSCS
    inverse_mass: float = 4.0
    beta: float = 4.0
    gamma: float = 0.04

    card: ClassVar[Card] = Card(
        title="CLD",
        paper="Score-Based Generative Modeling with Critically-Damped Langevin Diffusion",
        year=2022,
        arxiv="2112.07068",
        heading=Heading.SCORE_SDE,
        rows=("I-14",),
        saves="sampling steps, by a simpler score and a splitting sampler",
        needs=(Need.TRAINING,),
        likelihood="not estimated: the paper's bound (eq. 60) needs a flow of position and velocity, which the estimator here lacks",
        sampling_fields=("steps", "sampler"),
        sweep=({"steps": 50}, {"steps": 100}, {"steps": 50, "sampler": "euler"}),
        claims=(
            Claim(
                text="at 50 steps the splitting sampler is better than Euler and Maruyama's",
                metric="fd",
                params={"steps": 50, "sampler": "sscs"},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.score_sde.cld",
                baseline_params={"steps": 50, "sampler": "euler"},
                figure="CIFAR-10 FID 20.5 against 52.7 at 50 evaluations, 3.07 against 7.00 at 150",
                source="arXiv 2112.07068, table 3",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        quadratic_steps(self.steps)
        if min(self.inverse_mass, self.beta) <= 0 or not 0 < self.gamma <= 1:
            raise ValueError(
                f"inverse_mass and beta must be positive and gamma in (0, 1], not {self.inverse_mass}, {self.beta} and {self.gamma}"
            )

    def fit(self, kit: Kit) -> LangevinModel:
        channels = kit.workload.shape[0]
        process = Langevin(inverse_mass=self.inverse_mass, beta=self.beta, gamma=self.gamma)
        model = LangevinModel(backbone(kit, channels=2 * channels, outputs=channels), process).to(kit.device)
        return train(model, hybrid_loss(model), kit, images_seen=kit.budget.train_images, what="CLD")

    def sample(self, model: LangevinModel, request: Request) -> Tensor:
        draws = request.draws()
        state = at_rest(model.process, draws, padded(request.shape))
        x = INTEGRATORS[self.sampler](
            lambda u, time: model.score(u, time, request.labels), state, quadratic_steps(self.steps), model.process, draws
        )
        return to_uint8(x, request.shape)


def hybrid_loss(model: LangevinModel) -> Loss:
    """E_t |noise - alpha|^2 over the velocity's noise (eq. 9 with weight 1 / l_t^2)."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(len(images), generator=generator, device=images.device, dtype=torch.float64)
        t = FIRST_TIME + (1 - FIRST_TIME) * uniform
        noise = noise_like(images.repeat(1, 2, 1, 1), generator)
        state = torch.cat(perturbed(model.kernel(t), images, torch.zeros_like(images), noise), dim=1)
        return (model.noise(state, t, labels)[0] - noise.chunk(2, dim=1)[1]).square().mean()

    return loss
