"""Training of a generator against a critic: two optimisers, non-saturating losses, a lazy penalty on the critic's gradient.

Goodfellow et al. 2014 (arXiv 1406.2661, section 3), the penalty R1 of Mescheder et al. 2018 (arXiv 1801.04406, eq. 9), put in only
every few steps as in Karras et al. 2020 (arXiv 1912.04958, section 3.1), here without a larger weight in return.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.contract import Kit
from bench.nets.ema import frozen, update_average
from bench.training.train import REPORT_EVERY, Loss, drawn_batch, rate

G = TypeVar("G", bound=nn.Module)
BETAS = (0.5, 0.9)  # of both Adams (Xiao et al. 2022, arXiv 2112.07804, appendix C)


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """Two networks, and what each minimises. The critic's `penalty` joins its loss in every `lazy`-th step.

    The critic learns alone for its first `lead` steps: a generator that moves before its critic can judge is led astray.
    """

    critic: nn.Module
    critic_loss: Loss
    penalty: Loss
    generator_loss: Loss
    critic_lr: float
    generator_lr: float
    lazy: int
    lead: int = 0


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of logits (B,) of real and of generated ones."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating: minus the log-probability that generated ones, with logits (B,), are real."""
    return F.softplus(-fake).mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """R1 without its weight gamma: half the mean of |d critic / d x|^2 over real x (B, C, H, W); differentiable."""
    x = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return slope.square().flatten(1).sum(1).mean() / 2


def train_game(generator: G, game: Game, kit: Kit, *, images_seen: int, what: str, seed: int = 0) -> G:
    """Train both in place and return the average of the generator's weights, frozen; after the lead, one step of each on every batch.

    `images_seen` are those of the common steps; the lead's come first.
    """
    generator = generator.to(kit.device).train().requires_grad_(True)
    critic = game.critic.to(kit.device).train()
    average = copy.deepcopy(generator)
    batch = kit.budget.train_batch
    common = max(1, math.ceil(images_seen / batch))
    steps = game.lead + common
    critic_plan, generator_plan = planned(critic, game.critic_lr, steps), planned(generator, game.generator_lr, common)
    rng = torch.Generator(kit.device).manual_seed(kit.seed * 1009 + seed)
    with kit.evaluated(generator), torch.enable_grad():  # the critic as written: compiled, it would have no second derivative
        for step in range(steps):
            images, labels = drawn_batch(kit, rng)
            judged = game.critic_loss(images, labels, rng)
            if step % game.lazy == 0:
                judged = judged + game.penalty(images, labels, rng)
            descend(judged, *critic_plan)
            if step >= game.lead:
                critic.requires_grad_(False)
                fooled = game.generator_loss(images, labels, rng)
                descend(fooled, *generator_plan)
                critic.requires_grad_(True)
                since = step - game.lead
                update_average(average, generator, min(0.999, (1 + since) / (10 + since)))
            if step % REPORT_EVERY == 0 or step == steps - 1:
                kit.progress(what, (step + 1) * batch, steps * batch)
    if not math.isfinite(judged.item() + fooled.item()):
        raise FloatingPointError(f"training of {what} diverged: the last losses are {judged.item()} and {fooled.item()}")
    frozen(average)
    return average


def planned(net: nn.Module, lr: float, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam, and its learning rate over the whole training."""
    optimiser = torch.optim.Adam(net.parameters(), lr=lr, betas=BETAS, fused=True)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))


def descend(loss: Tensor, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    """One step of one optimiser."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    schedule.step()
