"""The fast way to evaluate networks: compiled, channels last, in bfloat16 where the device multiplies in it.

Draws, loops and optimisers are those of the reference, weights are in float32. A strategy knows of none of it: the networks' `forward` is
replaced while it samples, or while they train.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from bench.contract import Evaluation, as_written
from bench.harness.memory import Batches
from bench.measures import Measure, measured, missing
from bench.meters.calls import networks
from bench.meters.latency import timed
from bench.values import Compute

CACHE = "TORCHINDUCTOR_CACHE_DIR"
RECOMPILATIONS = 64  # of one function: networks of one class share theirs, each with its batch sizes, with and without gradients
NOT_COMPILED = missing("not applicable: nothing is compiled")


@contextmanager
def evaluated(model: nn.Module, compute: Compute, device: torch.device) -> Iterator[None]:
    """Inside the block the model's networks are evaluated in this way. Hooks on them, and so the count of their calls, stay outside."""
    with ExitStack() as stack:
        if compute is Compute.FAST:
            stack.enter_context(_compiler())
            for network in networks(model).values():
                stack.enter_context(_fast(network, device))
        yield


@contextmanager
def trained(compute: Compute, device: torch.device) -> Iterator[Evaluation]:
    """How the networks that train inside the block are evaluated. What is compiled serves to the end of the block."""
    if compute is Compute.REFERENCE:
        yield as_written
        return
    with _compiler():
        yield partial(_as_called, device=device)


@contextmanager
def _as_called(net: nn.Module, device: torch.device) -> Iterator[None]:
    """Makes fast what a loss calls: modules with parameters and a `forward`, each unless another of them is calling it."""
    with ExitStack() as stack:
        for module in list(net.modules()):
            if type(module).forward is not nn.Module.forward and any(True for _ in module.parameters()):
                stack.enter_context(_fast(module, device))
        yield


@contextmanager
def _compiler() -> Iterator[None]:
    """Finds nothing that was compiled before, in memory or on disk, so that the seconds are those of a first use.

    Where torch would give up after some shapes, and go on as written without a word, it raises.
    """
    from torch._dynamo import config  # inside: imports the compiler, seconds that nothing else waits for

    kept = os.environ.get(CACHE)
    try:
        with TemporaryDirectory() as folder, config.patch(recompile_limit=RECOMPILATIONS, fail_on_recompile_limit_hit=True):
            os.environ[CACHE] = folder
            yield
    finally:
        torch.compiler.reset()
        os.environ.pop(CACHE, None)
        os.environ.update({} if kept is None else {CACHE: kept})


@contextmanager
def _fast(network: nn.Module, device: torch.device) -> Iterator[None]:
    """From its first call on, and all that it consists of with it."""
    for weight in network.parameters():
        weight.data = channels_last(weight.data)
    as_it_was = network.forward

    @cache
    def compiled() -> Callable[..., Any]:
        for part in network.modules():
            if part is not network:
                vars(part).pop("forward", None)
        return torch.compile(as_it_was)

    def forward(*args: Any, **named: Any) -> Any:
        function = compiled()
        with torch.autocast(device.type, torch.bfloat16, enabled=number_format(device) is torch.bfloat16):
            made = function(*tree_map(channels_last, args), **named)
        return tree_map(as_float32, made)

    network.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(network).pop("forward", None)


def number_format(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs and on processors that multiply in it: AMX, or AVX-512's instructions for it (Zen 4, Cooper Lake)."""
    has = torch.cpu.get_capabilities()
    multiplies = device.type == "cuda" or has.get("amx_bf16", False) or has.get("avx512_bf16", False)
    return torch.bfloat16 if multiplies else torch.float32


def told_format(device: torch.device) -> str:
    return str(number_format(device)).removeprefix("torch.")


def channels_last(value: Any) -> Any:
    """Images (B, C, H, W) and filters with a pixel's channels side by side, as convolutions read them; anything else as it is."""
    if isinstance(value, Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def as_float32(value: Any) -> Any:
    """Samplers keep their state so."""
    return value.float() if isinstance(value, Tensor) and value.dtype is torch.bfloat16 else value


@dataclass(frozen=True)
class Compilation:
    """Seconds that compiling took, and the number of images after which it has paid for itself."""

    seconds: Measure = NOT_COMPILED
    break_even: Measure = NOT_COMPILED


class Rival:
    """The same batches as written, which the fast ones are timed against: at their first call and at later ones."""

    def __init__(self, call: Callable[[int], Callable[[], object]], largest: int, device: torch.device) -> None:
        """`call(n)` -> a call that samples n images. The largest batch that fits, of at most `largest`, decides on the break-even."""
        self._call, self._device = call, device
        self._sizes, seconds = next(Batches(largest, device).over(0, largest, self._as_written))
        self._as_written_s = seconds[-1]

    def compilation(self) -> Compilation:
        """Inside `evaluated`, before anything else is: the first calls compile. No figures where a batch fits as written alone."""
        n = self._sizes[-1]
        both = Batches(n, self._device).attempt(lambda *_: (self._seconds(self._sizes, warm=False), self._seconds(self._sizes)), 0, n)
        if both is None:
            too_large = missing(f"not measured: a batch of {n} images fits as written, not compiled")
            return Compilation(too_large, too_large)
        first, later = both
        seconds, saved = sum(first) - sum(later), (self._as_written_s - later[-1]) / n
        how = f"first calls less later ones, of batches of {', '.join(map(str, self._sizes))}"
        quick = f"{n / later[-1]:.4g} compiled, in {told_format(self._device)}"
        rates = f"{n / self._as_written_s:.4g} images/s as written, {quick}, at batch {n}"
        never = missing(f"never: {rates}")
        return Compilation(measured(seconds, method=how), measured(seconds / saved, method=rates) if saved > 0 else never)

    def _as_written(self, _first: int, count: int) -> tuple[tuple[int, int], list[float]]:
        sizes = (1, count)
        return sizes, self._seconds(sizes)

    def _seconds(self, sizes: tuple[int, int], warm: bool = True) -> list[float]:
        """Of one call of each size; the better of two where warm."""
        calls = [self._call(size) for size in sizes]
        return [min(timed(call, self._device) for _ in range(1 + warm)) for call in calls]
