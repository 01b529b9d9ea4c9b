"""Exponential moving average of weights, and initialisation that leaves the global random state alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initialise networks inside: a function of the seed alone; the global random state is as before afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * net, parameters only; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
    for kept, new in zip(average.buffers(), net.buffers()):
        kept.copy_(new)


def frozen(module: nn.Module) -> nn.Module:
    """Evaluation mode, no gradients for the parameters; gradients with respect to inputs still flow."""
    return module.eval().requires_grad_(False)
