"""Where an extractor comes from: all that the harness has to know of it."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import torch

from bench.metrics import extractors
from bench.metrics.features import Extractor, file_hash


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What the user says of weights: a path to Inception's, and whether the network may be used."""

    inception: Path | None = None
    download: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """`load` raises ExtractorUnavailable without weights; `file` is where they lie, or should.

    `mark` names a choice beside the weights that changes features, `packages` are distributions that nothing else needs, and `without`
    says what is lost where the weights are not there.
    """

    load: Callable[[torch.device, Weights], Extractor]
    file: Callable[[Weights], Path]
    mark: str = ""
    packages: frozenset[str] = frozenset()
    without: str = "no scores of it"

    def identity(self, weights: Weights) -> str:
        """What stands for the extractor before it is loaded."""
        return f"{file_hash(self.file(weights))}{self.mark}"


@cache
def sources() -> dict[str, Source]:
    """Every file of `bench.metrics.extractors`, by its name."""
    names = [module.name for module in pkgutil.iter_modules(extractors.__path__)]
    return {name: import_module(f"{extractors.__name__}.{name}").SOURCE for name in names}


def checkpoint(name: str) -> Path:
    """Where torch's hub keeps a checkpoint of this name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name
