"""The roofline of a device: the most evaluations of a network a second (Williams, Waterman & Patterson 2009, doi 10.1145/1498765.1498785).

Arithmetic and memory each set a limit, and the lower one holds. The bytes of an evaluation are counted from the network, not measured.
"""

import itertools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bench.meters.flops import network_flops


class Bound(StrEnum):
    """What sets the roof."""

    ARITHMETIC = "arithmetic"
    MEMORY = "memory"


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """What a device reaches: `flops_per_s` in one number format; `bytes_per_s` of its memory, read and written together."""

    flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs, 2 per multiply-add, and bytes moved by one evaluation of a network for one image."""

    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True)
class Roof:
    """Image-evaluations a second, and what stands in the way of more."""

    per_s: float
    bound: Bound


def roof(work: Work, peaks: Peaks) -> Roof:
    """min(peak / FLOPs, bandwidth / bytes). A number that is not positive is a `ValueError`."""
    numbers = (work.flops, work.bytes, peaks.flops_per_s, peaks.bytes_per_s)
    if not all(number > 0 for number in numbers):
        raise ValueError(f"work and peaks must be positive, not {numbers}")
    arithmetic, memory = peaks.flops_per_s / work.flops, peaks.bytes_per_s / work.bytes
    return Roof(per_s=min(arithmetic, memory), bound=Bound.ARITHMETIC if arithmetic <= memory else Bound.MEMORY)


def work_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> Work:
    """Of one image in a batch of these inputs (B, ...): its share of the weights' bytes falls with the batch."""
    batch = len(inputs[0])
    return Work(flops=network_flops(network, inputs) / batch, bytes=traffic(network, inputs) / batch)


@torch.no_grad()
def traffic(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Bytes of one call in which each layer reads its inputs and its weights once and writes its output once.

    A layer is a module without children. What stands between layers (activation functions, sums, concatenations, the products of
    attention) moves nothing, as if fused into its neighbours; no cache keeps a tensor from one layer to the next.
    """
    moved = 0

    def hook(layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        nonlocal moved
        if not any(out is given for given in args):  # an identity moves nothing
            tensors = [part for part in tree_leaves((args, out)) if isinstance(part, Tensor)]
            moved += sum(size(t) for t in itertools.chain(tensors, layer.parameters(), layer.buffers()))

    layers = [module for module in network.modules() if not any(True for _ in module.children())]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return moved


def size(tensor: Tensor) -> int:
    """Bytes of its elements."""
    return tensor.numel() * tensor.element_size()
