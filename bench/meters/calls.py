"""Counting network evaluations from outside, by forward hooks on a model's networks."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

LEVELS = ("sigma", "timestep", "t")  # keywords under which networks are told a noise level


def networks(model: nn.Module) -> dict[str, nn.Module]:
    """The model's top-level children that have parameters, by name; a denoiser's wrapper counts through its child."""
    return {name: child for name, child in model.named_children() if any(True for _ in child.parameters())}


@dataclass
class Calls:
    """Rows evaluated per network, and the distinct noise levels that the first row of each call was at.

    `told` are the networks that are told a noise level, one for each row: those whose rows are evaluations (NFE); codecs are told none.
    Levels are collected, and outputs checked to be finite, only where asked, as reading them waits for the device.
    """

    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    levels: dict[str, set[float]] = field(default_factory=lambda: defaultdict(set))
    told: set[str] = field(default_factory=set)

    def evaluations(self) -> int:
        """Rows of the networks that are told a noise level; where none is, of all."""
        return sum(rows for name, rows in self.rows.items() if name in self.told or not self.told)

    def per_image(self, images: int) -> dict[str, float]:
        return {name: rows / images for name, rows in sorted(self.rows.items())}

    def steps(self) -> int:
        """Sampler iterations: distinct noise levels over all networks that are told one; where none is, the calls themselves."""
        told = sum(len(levels) for levels in self.levels.values())
        return told or sum(self.calls.values())


@contextmanager
def counted(model: nn.Module, *, with_levels: bool = False) -> Iterator[Calls]:
    """Count every call of the model's networks inside the block. Raises FloatingPointError, with levels, for a NaN or an infinity."""
    calls, handles = Calls(), []

    def hook_for(name: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object) -> None:
            rows = args[0] if args else next(iter(kwargs.values()), None)
            assert isinstance(rows, Tensor), f"the network '{name}' is called with no tensor in front"
            calls.rows[name] += rows.shape[0]
            calls.calls[name] += 1
            if with_levels and isinstance(output, Tensor) and not output.isfinite().all():
                raise FloatingPointError(f"what the network '{name}' returned is not finite")
            level = args[1] if len(args) > 1 else next((kwargs[key] for key in LEVELS if key in kwargs), None)
            if not isinstance(level, Tensor) or level.shape not in ((rows.shape[0],), ()):
                return
            calls.told.add(name)
            guides = rows.requires_grad  # called for its gradient, it guides a step and is none of its own
            if with_levels and not guides:
                calls.levels[name].add(float(level.flatten()[0]))

        return hook

    for name, network in networks(model).items():
        handles.append(network.register_forward_hook(hook_for(name), with_kwargs=True))
    try:
        with torch.no_grad():
            yield calls
    finally:
        for handle in handles:
            handle.remove()
