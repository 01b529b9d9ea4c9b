"""One training loop for all: AdamW, linear warm-up, cosine decay to zero, gradient clipping, an exponential moving average of weights.

Length is in images seen, so that it means the same on any device and with any batch.
"""

import copy
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.contract import Kit
from bench.data.images import to_model
from bench.nets.ema import frozen, update_average

M = TypeVar("M", bound=nn.Module)
Loss = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""(model images (B, C, H, W) in [-1, 1], labels (B,), generator) -> scalar."""

REPORT_EVERY = 20


def train(net: M, loss: Loss, kit: Kit, *, images_seen: int, what: str, lr: float = 2e-3, seed: int = 0) -> M:
    """Train `net` in place on the kit's images and return the average of its weights, frozen.

    Batches are drawn with replacement by a generator of (kit.seed, seed); `loss` draws its own noise from the same one.
    """
    net = net.to(kit.device).train()
    average = copy.deepcopy(net)
    batch = kit.budget.train_batch
    steps = max(1, math.ceil(images_seen / batch))
    optimiser = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))
    generator = torch.Generator(kit.device).manual_seed(kit.seed * 1009 + seed)
    with kit.evaluated(net), torch.enable_grad():
        for step in range(steps):
            value = loss(*drawn_batch(kit, generator), generator)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            update_average(average, net, min(0.999, (1 + step) / (10 + step)))
            if step % REPORT_EVERY == 0 or step == steps - 1:
                kit.progress(what, (step + 1) * batch, steps * batch)
    if not math.isfinite(value.item()):
        raise FloatingPointError(f"training of {what} diverged: the last loss is {value.item()}")
    frozen(average)
    return average


def drawn_batch(kit: Kit, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(model images, labels) of the budget's batch, drawn with replacement."""
    index = torch.randint(len(kit.images), (kit.budget.train_batch,), generator=generator, device=kit.device)
    return to_model(kit.images[index]), kit.labels[index]


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear over the first twentieth, then half a cosine down to zero."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal of x's shape, from the training generator."""
    return torch.randn(x.shape, generator=generator, device=x.device)


def drop_labels(labels: Tensor, probability: float, null: int | None, generator: torch.Generator) -> Tensor:
    """Each label (B,) independently replaced by the network's `null` (arXiv 2207.12598, algorithm 1)."""
    assert null is not None, "a network that is trained without labels, too, needs a null condition"
    drop = torch.rand(labels.shape, generator=generator, device=labels.device) < probability
    return labels.masked_fill(drop, null)
