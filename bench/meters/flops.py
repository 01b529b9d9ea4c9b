"""FLOPs of a whole trajectory, 2 per multiply-add, convolutions and matrix products alone; and fvcore's count of one network call.

The dispatch counter sees everything that runs, forward and backward, in whatever network or loop; torch's own formulas price it.
fvcore's count of the same network, with a handler for attention, is the independent oracle.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

EXPENSIVE = re.compile(r"(mm|mv)(_|$)|conv(?!ert)|attention|(?<![a-z])linear(?!\d)|einsum|lstm|gru|matmul")


class UncountedOperation(Exception):
    """An operation with the cost of a matrix product for which torch has no formula; counting on would undercount."""


class FlopCounter(TorchDispatchMode):
    """Adds up the FLOPs of every operation dispatched inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet in flop_registry:
            self.total += int(flop_registry[packet](*args, **(kwargs or {}), out_val=out))
        elif is_expensive(packet.__name__):
            raise UncountedOperation(f"no FLOP formula for {packet}")
        return out


def is_expensive(name: str) -> bool:
    """Whether an operation's name says that it multiplies matrices."""
    return EXPENSIVE.search(name) is not None


@contextmanager
def counted_flops() -> Iterator[FlopCounter]:
    """Count inside the block, with attention run as plain matrix products, whose formulas are exact on every device."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounter() as counter:
        yield counter


def network_flops(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """FLOPs of one call by fvcore's trace, doubled from its multiply-adds; norms and element-wise work count nothing."""
    analysis = FlopCountAnalysis(network, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    free = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "upsample_nearest2d", "upsample_bilinear2d")
    for name in (*free, "adaptive_avg_pool2d", "grid_sampler"):
        analysis.set_op_handle(f"aten::{name}", _nothing)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    macs = int(analysis.total())
    uncounted = [op for op in analysis.unsupported_ops() if is_expensive(op.removeprefix("aten::"))]
    if uncounted:
        raise UncountedOperation(f"fvcore has no handler for {', '.join(uncounted)}")
    return 2 * macs


def _nothing(_inputs: list[Any], _outputs: list[Any]) -> float:
    return 0.0


def _attention_macs(inputs: list[Any], _outputs: list[Any]) -> float:
    """Multiply-adds of q k^T and of its product with v, for q (..., L, E), k (..., S, E), v (..., S, F)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return math.prod(q[:-2]) * q[-2] * k[-2] * (q[-1] + v[-1])


def trajectory_flops(run: Callable[[], Tensor]) -> float:
    """FLOPs per image of `run`, which samples a batch."""
    with torch.no_grad(), counted_flops() as counter:
        images = run()
    return counter.total / len(images)
