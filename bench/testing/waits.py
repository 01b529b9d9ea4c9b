"""What makes the host wait for the device: reading a value that was computed there, or asking for a shape that depends on one.

On a CPU nothing waits, so that the calls themselves are looked for, on whatever descends from what the networks have seen or given.
Schedules do not: they are tables of the host on any device.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

READS = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero", "unique", "masked_select"}


class Waits(TorchFunctionMode):
    """The names of the calls that would wait, in `found`, between the first and the last of `evaluations` of the networks."""

    def __init__(self, evaluations: int) -> None:
        super().__init__()
        self.found: list[str] = []
        self._begun, self._evaluations = 0, evaluations
        self._on_device = WeakIdKeyDictionary()

    def begins(self, _network: nn.Module, inputs: Any) -> None:
        self._begun += 1
        self._mark(inputs)

    def ends(self, _network: nn.Module, _inputs: Any, output: Any) -> None:
        self._mark(output)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        result = func(*args, **(kwargs or {}))
        if any(x in self._on_device for x in given):
            self._mark(result)
            name = (resolve_name(func) or "").rsplit(".", 1)[-1]
            masked = name == "__getitem__" and isinstance(args[1], Tensor) and args[1].dtype == torch.bool
            if self._begun < self._evaluations and (name in READS or masked):
                self.found.append("a boolean index" if masked else name)
        return result

    def _mark(self, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._on_device[tensor] = True


@contextlib.contextmanager
def waits(watched: Iterable[nn.Module], evaluations: int) -> Iterator[list[str]]:
    """The calls inside the block that would make the host wait between two of that many evaluations of the watched networks."""
    mode = Waits(evaluations)
    handles = [handle for net in watched for handle in (net.register_forward_pre_hook(mode.begins), net.register_forward_hook(mode.ends))]
    try:
        with mode:
            yield mode.found
    finally:
        for handle in handles:
            handle.remove()
