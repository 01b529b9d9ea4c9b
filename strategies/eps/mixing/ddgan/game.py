"""The game of a denoising diffusion GAN: the critic tells real steps back along the chain from generated ones.

Xiao, Kreis & Vahdat 2022 (arXiv 2112.07804, eq. 4 and 5): steps are drawn evenly, anew for each of the two networks. A generator that
starts from scratch outruns its critic in a short training; one that starts from a regression does not (as in Ledig et al. 2017, arXiv
1609.04802, section 3.2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.nets.adversarial import PairCritic
from bench.training.adversarial import Game, critic_loss, generator_loss, gradient_penalty
from bench.training.train import Loss, noise_like
from strategies.eps.mixing.ddgan.chain import LatentGenerator, forward_pair, reverse_draw, unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """States x_low and x_high (B, C, H, W) of a real chain at levels low and high (B, 1, 1, 1); t (B,) in 0..1000 is the time of high."""

    x_low: Tensor
    x_high: Tensor
    low: Tensor
    high: Tensor
    t: Tensor


def drawn_step(images: Tensor, grid: Tensor, generator: torch.Generator) -> Step:
    """One of the steps down the grid (T + 1,) for each of the images (B, C, H, W)."""
    steps = len(grid) - 1
    k = torch.randint(steps, (len(images),), generator=generator, device=images.device)
    high, low = (grid[i].to(images.dtype)[:, None, None, None] for i in (k, k + 1))
    x_low, x_high = forward_pair(images, high, low, noise_like(images, generator), noise_like(images, generator))
    return Step(x_low=x_low, x_high=x_high, low=low, high=high, t=1000.0 * (steps - k) / steps)


def imagined(generator: LatentGenerator, step: Step, labels: Tensor, rng: torch.Generator) -> Tensor:
    """x0 (B, C, H, W) as the generator would have it, given x_high, by new latents."""
    z = noise_like(step.x_high.new_empty(len(labels), generator.latent), rng)
    x0: Tensor = generator(step.x_high, step.high.flatten().double(), labels, z)
    return x0


def regression(generator: LatentGenerator, grid: Tensor) -> Loss:
    """Mean squared error of x0 over the steps down `grid` (T + 1,): the mean that the game then gives its modes."""
    levels = grid.to(generator.sigmas.device)

    def loss(images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        step = drawn_step(images, levels, rng)
        return (imagined(generator, step, labels, rng) - images).square().mean()

    return loss


def generated(generator: LatentGenerator, step: Step, labels: Tensor, rng: torch.Generator) -> Tensor:
    """x_low (B, C, H, W) as the generator would have it, given x_high."""
    x0 = imagined(generator, step, labels, rng)
    return reverse_draw(step.x_high, x0, step.high, step.low, noise_like(x0, rng))


def judged(critic: PairCritic, step: Step, x_low: Tensor, labels: Tensor) -> Tensor:
    """The critic's logits (B,) of x_low before the step's x_high."""
    logits: Tensor = critic(unit(x_low, step.low), unit(step.x_high, step.high), step.t, labels)
    return logits


def denoising_game(
    generator: LatentGenerator,
    critic: PairCritic,
    grid: Tensor,
    *,
    gamma: float,
    lazy: int,
    generator_lr: float,
    critic_lr: float,
    lead: int = 0,
) -> Game:
    """Over descending sigmas `grid` (T + 1,) that end in 0; `gamma` weighs R1, which asks for the slope in x_low alone."""
    levels = grid.to(generator.sigmas.device)

    def tells(images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        step = drawn_step(images, levels, rng)
        with torch.no_grad():
            fake = generated(generator, step, labels, rng)
        return critic_loss(judged(critic, step, step.x_low, labels), judged(critic, step, fake, labels))

    def penalty(images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        step = drawn_step(images, levels, rng)
        x_high = unit(step.x_high, step.high)
        return gamma * gradient_penalty(lambda x_low: critic(x_low, x_high, step.t, labels), unit(step.x_low, step.low))

    def fools(images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        step = drawn_step(images, levels, rng)
        return generator_loss(judged(critic, step, generated(generator, step, labels, rng), labels))

    return Game(
        critic=critic,
        critic_loss=tells,
        penalty=penalty,
        generator_loss=fools,
        critic_lr=critic_lr,
        generator_lr=generator_lr,
        lazy=lazy,
        lead=lead,
    )
