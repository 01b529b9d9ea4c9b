"""A GPU that is not there, played by the processor: tensors that say they are on it, and that may be used only as a GPU's may.

Their numbers are the processor's, so that what is computed with them is what is computed without. What a GPU refuses is refused: operands
on two devices, a generator of the other one, NumPy. What makes the host wait for a GPU, as `torch.cuda.set_sync_debug_mode` has it, is
written down: values that are read, shapes that depend on values, copies from one to the other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.testing.trees import changed, tensors

GPU = torch.device("cuda", 63)  # an index that no machine has: what is cached under it serves no other device
HOST = torch.device("cpu")

aten = torch.ops.aten
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}  # indices come from either device
WAITS = {
    aten._local_scalar_dense: "item",
    aten.nonzero: "nonzero",
    aten.masked_select: "masked_select",
    aten._unique2: "unique",
    aten.unique_dim: "unique",
    aten.equal: "equal",
    aten.bincount: "bincount",
    aten.repeat_interleave: "repeat_interleave",
    aten._linalg_check_errors: "the check of a factorisation",
}
TO_DEVICE, TO_HOST, MASK = "a copy to the device", "a copy to the host", "a boolean index"
COPIES: set[Any] = {Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.new_tensor, torch.tensor, torch.as_tensor}
OF_NO_TENSOR: set[Any] = {torch.device, torch._C._nn._parse_to}
OF_MEMORY: set[Any] = {Tensor.data_ptr, Tensor.untyped_storage}
OF_NUMPY: set[Any] = {Tensor.numpy, Tensor.__array__}
BACKWARD = torch.autograd._engine_run_backward
COMPATIBLE = torch._has_compatible_shallow_copy_type


class Played(Tensor):
    """A tensor on the GPU, with its numbers."""

    numbers: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __new__(cls, numbers: Tensor, requires_grad: bool = False) -> Self:
        made: Any = Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=HOST,  # what torch's own code sees
            requires_grad=requires_grad,
        )
        made.numbers = numbers
        return made  # type: ignore[no-any-return]

    device = property(lambda _: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda _: True)  # type: ignore[assignment]

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Played({self.numbers})"

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 else repr(self), spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied = Played(self.numbers.clone(), self.requires_grad)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        return memo[id(self)]  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func} outside of the block that plays the GPU")


class PlayedGenerator(torch.Generator):
    """A generator of either device, with the processor's numbers."""

    def __new__(cls, device: torch.device | str = HOST) -> Self:
        made = super().__new__(cls, HOST)  # type: ignore[call-arg]
        made.of = torch.device(device)
        return made

    of: torch.device
    device = property(lambda self: self.of)  # type: ignore[assignment]


@dataclass
class _Play:
    """What has made the host wait so far; whether a call is under way that was given tensors on the GPU."""

    waits: list[str] = field(default_factory=list)
    on_gpu: bool = False


class _Operations(TorchDispatchMode):
    """Arithmetic of tensors on the GPU, once it is known what is on which device."""

    def __init__(self, play: _Play) -> None:
        super().__init__()
        self._play = play

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        with torch._C.DisableTorchFunction():  # what is called here names no device
            given = tensors((args, kwargs))
            played = [x for x in given if isinstance(x, Played)]
            if played:
                self._look(func, args, given)
                args, kwargs = changed(bare, tuple(args)), changed(bare, kwargs)
            result = func(*args, **(kwargs or {}))
            if not played and (given or not self._play.on_gpu):
                return result
            wearers = {id(x.numbers): x for x in played}  # what is changed in place stays the tensor that it was
            return changed(lambda x: wearers[id(x)] if id(x) in wearers else Played(x), result)

    def _look(self, func: Any, args: Sequence[Any], given: Sequence[Tensor]) -> None:
        """Raises RuntimeError where an operation is given tensors of both devices, and notes what waits."""
        packet = func.overloadpacket
        copies, indexes = packet is aten.copy_, packet in INDEXING
        hosts = _hosts(given)
        taken = hosts if copies else _hosts(tensors(args[1])) if indexes else []
        if len(hosts) > len(taken):
            raise RuntimeError(f"{func} of a tensor on the GPU and of one on the host, {tuple(hosts[0].shape)}")
        if packet in WAITS:
            self._play.waits.append(WAITS[packet])
        self._play.waits += [TO_HOST if copies and not isinstance(args[0], Played) else TO_DEVICE for _ in taken]
        if indexes:
            self._play.waits += [MASK for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]


class _Devices(TorchFunctionMode):
    """Calls that name a device: torch itself never hears of the GPU."""

    def __init__(self, play: _Play) -> None:
        super().__init__()
        self._play = play

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in OF_NO_TENSOR:
            return func(*args, **kwargs)
        first = args[0] if args else None
        if isinstance(first, Played) and func in OF_NUMPY:
            raise TypeError("a tensor on the GPU has no NumPy array; use Tensor.cpu() first")
        if isinstance(first, Played) and func in OF_MEMORY:
            return func(first.numbers)
        if isinstance(first, Played) and func is Tensor.tolist:
            self._play.waits.append("tolist")
            return first.numbers.tolist()
        named = _named(func, args, kwargs)
        before, self._play.on_gpu = self._play.on_gpu, named is None and any(isinstance(x, Played) for x in tensors((args, kwargs)))
        try:
            result = first if func is Tensor.cuda else func(*map(_for_host, args), **{key: _for_host(x) for key, x in kwargs.items()})
        finally:
            self._play.on_gpu = before
        if named is not None and isinstance(result, Tensor):
            result = self._placed(result, named, func in COPIES)
        generator = kwargs.get("generator")
        if generator is not None and isinstance(result, Tensor) and generator.device.type != result.device.type:
            raise RuntimeError(f"a generator on {generator.device.type} for a tensor on {result.device.type}")
        return result

    def _placed(self, result: Tensor, device: torch.device, copied: bool) -> Tensor:
        """The result on that device; a copy of it, where it was on the other."""
        if (device.type == "cuda") is isinstance(result, Played):
            return result
        if copied:
            self._play.waits.append(TO_HOST if isinstance(result, Played) else TO_DEVICE)
        if result.grad_fn is not None:
            raise NotImplementedError("a gradient that goes from one device to the other")
        moved: Tensor = bare(result.detach()).clone() if copied else bare(result.detach())
        return moved.requires_grad_(result.requires_grad) if device.type == "cpu" else Played(moved, result.requires_grad)


def bare(value: Any) -> Any:
    """The numbers of a tensor on the GPU; anything else as it is."""
    return value.numbers if isinstance(value, Played) else value


def _hosts(given: Iterable[Tensor]) -> list[Tensor]:
    """Those of the host, without single numbers, which go along with a kernel."""
    return [x for x in given if not isinstance(x, Played) and x.ndim]


def _named(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device | None:
    """The device that a call asks for, where it asks for one."""
    if func in (Tensor.cpu, Tensor.cuda):
        return HOST if func is Tensor.cpu else GPU
    for given in (kwargs.get("device"), *(args[1:] if func is Tensor.to else ())):
        if isinstance(given, torch.device | str):
            return torch.device(given)
        if isinstance(given, Tensor):
            return given.device
    return args[0].device if func is Tensor.new_tensor else None


def _for_host(given: Any) -> Any:
    is_gpu = (isinstance(given, torch.device) and given.type == "cuda") or (isinstance(given, str) and given.startswith("cuda"))
    return HOST if is_gpu else given


def _set_in_place(before: Tensor, after: Tensor) -> bool:
    """Whether `Module.to` keeps a parameter, and puts no new one in its place: not where it moves."""
    return before is after or (not (isinstance(before, Played) or isinstance(after, Played)) and COMPATIBLE(before, after))


@contextmanager
def played_gpu() -> Iterator[list[str]]:
    """Inside the block `GPU` is a device. Gives the list of what has made the host wait for it so far."""
    import torch._dynamo  # inside: a mode imports it at its first call, seconds that nothing else waits for; and not while torch is patched

    play = _Play()
    operations, devices = _Operations(play), _Devices(play)

    def backward(*args: Any, **kwargs: Any) -> Any:
        with devices:  # what is checkpointed runs once more
            return BACKWARD(*args, **kwargs)

    of_torch = patch.multiple(torch, Generator=PlayedGenerator, _has_compatible_shallow_copy_type=_set_in_place)
    with of_torch, patch.object(torch.autograd, "_engine_run_backward", backward), operations, devices:
        yield play.waits


def between_evaluations(watched: Iterable[nn.Module], sample: Callable[[], object], waits: Sequence[str]) -> Sequence[str]:
    """What is added to `waits` while `sample` runs, from the start of the first evaluation of the watched networks to that of the last."""
    begun: list[int] = []
    handles = [network.register_forward_pre_hook(lambda *_: begun.append(len(waits))) for network in watched]
    try:
        sample()
    finally:
        for handle in handles:
            handle.remove()
    return waits[begun[0] : begun[-1]] if begun else ()
