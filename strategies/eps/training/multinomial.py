"""Diffusion over categories: pixels are one of K grey levels all the way, and noise is resampling of a level.

Paper: Hoogeboom, Nielsen, Jaini, Forre & Welling 2021, "Argmax Flows and Multinomial Diffusion", arXiv 2102.05379.
Saves: nothing in steps; a likelihood bound of discrete data without dequantisation.
Differs: K grey levels of images in place of characters and label maps; noise times drawn uniformly, not by importance.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from bench.cards import Card, Heading, Need
from bench.contract import Kit, LikelihoodStrategy, Request
from bench.data.images import padded, to_model, to_uint8
from bench.diffusion.categorical import cosine_retention, divergence, draw, log_blend, log_onehot, log_posterior
from bench.diffusion.likelihood import bits_per_dim
from bench.nets.unet import UNet
from bench.registry import register
from bench.training.noise_prediction import backbone
from bench.training.train import Loss, train


class CategoricalModel(nn.Module):
    """The network of x0's levels, with the schedule: step_keep (T,) is a_t, keep (T + 1,) is abar_t with abar_0 = 1."""

    step_keep: Tensor
    keep: Tensor

    def __init__(self, net: UNet, levels: int, steps: int) -> None:
        super().__init__()
        self.net, self.levels = net, levels
        a, abar = cosine_retention(steps)
        self.register_buffer("step_keep", a)
        self.register_buffer("keep", abar)

    def log_x0(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """log p(x0 | x_t) (B, C, H, W, K) for levels x (B, C, H, W) and times t (B,) in 1..T."""
        b, c, h, w = x.shape
        hot = nn.functional.one_hot(x, self.levels).float()
        inputs = hot.permute(0, 1, 4, 2, 3).reshape(b, c * self.levels, h, w)
        logits = self.net(inputs, 1000.0 * t / len(self.step_keep), labels)
        return logits.reshape(b, c, self.levels, h, w).movedim(2, -1).double().log_softmax(-1)

    def log_reverse(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """log p(x_{t-1} | x_t) (B, C, H, W, K)."""
        return self.posterior(self.log_x0(x, t, labels), x, t)

    def posterior(self, log_x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """log q(x_{t-1} | x_t, x0) with x0 a distribution, per image at time t (B,)."""
        spread = (slice(None), None, None, None)
        return log_posterior(log_x0, log_onehot(x, self.levels), self.step_keep[t - 1][spread], self.keep[t - 1][spread])

    def noised(self, x0: Tensor, t: Tensor, uniform: Tensor) -> Tensor:
        """Levels x_t drawn from q(x_t | x0)."""
        return draw(log_blend(log_onehot(x0, self.levels), self.keep[t][:, None, None, None]), uniform)

    def terms(self, x0: Tensor, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """The bound's term at time t in nats per pixel (B, C, H, W); at t = 1 it is the decoder's -log p(x0 | x1)."""
        exact = self.posterior(log_onehot(x0, self.levels), x, t)
        return divergence(exact, self.log_reverse(x, t, labels))


@register
@final
@dataclass(frozen=True, kw_only=True)
class Multinomial(LikelihoodStrategy[CategoricalModel]):
    """`levels` K of grey and `steps` T (section 6.2: K = 8, T = 4000; digits have 17 levels by nature)."""

    levels: int = 17
    steps: int = 100

    card: ClassVar[Card] = Card(
        title="Multinomial diffusion",
        paper="Argmax Flows and Multinomial Diffusion",
        year=2021,
        arxiv="2102.05379",
        heading=Heading.TRAINING,
        rows=("II-03",),
        saves="dequantisation: the state is as discrete as the data",
        needs=(Need.TRAINING,),
        likelihood="variational bound, each level spread evenly over its grey values",
        sweep=({"steps": 50},),
    )

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256 or not 2 <= self.steps <= 4000:
            raise ValueError(f"levels must lie in 2..256 and steps in 2..4000, not {self.levels} and {self.steps}")

    def fit(self, kit: Kit) -> CategoricalModel:
        channels = self.levels * kit.workload.shape[0]
        model = CategoricalModel(backbone(kit, channels=channels), self.levels, self.steps).to(kit.device)
        return train(model, self.loss(model), kit, images_seen=kit.budget.train_images, what="multinomial denoiser")

    def loss(self, model: CategoricalModel) -> Loss:
        def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
            x0 = self.quantised(images)
            t = torch.randint(1, self.steps + 1, (len(x0),), generator=generator, device=x0.device)
            uniform = torch.rand(x0.shape, generator=generator, device=x0.device)
            return model.terms(x0, model.noised(x0, t, uniform), t, labels).mean()

        return loss

    def sample(self, model: CategoricalModel, request: Request) -> Tensor:
        draws, shape = request.draws(), padded(request.shape)
        x = (draws.uniform(*shape) * self.levels).long()
        for t in range(self.steps, 0, -1):
            times = torch.full((len(request),), t, device=x.device)
            x = draw(model.log_reverse(x, times, request.labels), draws.uniform(*shape))
        return to_uint8(x * (2 / (self.levels - 1)) - 1, request.shape)

    def bits_per_dim(self, model: CategoricalModel, images: Tensor, request: Request) -> Tensor:
        """The bound of the levels, with each level's probability spread evenly over the grey values that round to it."""
        draws, x0 = request.draws(), self.quantised(to_model(images))
        prior = log_blend(log_onehot(x0, self.levels), model.keep[-1].expand(x0.shape))
        uniform = torch.full_like(prior, -torch.tensor(float(self.levels)).log().item())
        nats = divergence(prior, uniform).flatten(1).sum(1)
        for t in range(1, self.steps + 1):
            times = torch.full((len(x0),), t, device=x0.device)
            x = model.noised(x0, times, draws.uniform(*x0.shape[1:]))
            nats = nats + model.terms(x0, x, times, request.labels).flatten(1).sum(1)
        greys = self.quantised(torch.arange(256) / 127.5 - 1).bincount(minlength=self.levels).to(x0.device)
        return bits_per_dim(nats + greys[x0].double().log().flatten(1).sum(1), request.shape)

    def quantised(self, x: Tensor) -> Tensor:
        """Levels 0..K-1 of model values in [-1, 1]."""
        return ((x + 1) * ((self.levels - 1) / 2)).round().long()
