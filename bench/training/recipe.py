"""What a recipe of a shared part is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from bench.cards import AssetName
from bench.contract import Kit

CLASSIFIER_IMAGES = 60_000  # that a classifier sees at most


@dataclass(frozen=True)
class Recipe:
    """How to build an untrained module and how to train it, from a kit that offers the assets in `needs`."""

    build: Callable[[Kit], nn.Module]
    fit: Callable[[Any, Kit, str], nn.Module]
    needs: tuple[AssetName, ...] = ()
