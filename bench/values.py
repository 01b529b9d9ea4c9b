"""The values that travel between layers and onto disk. Standard library only; frozen, keyword-only, units in the names."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.cards import Card, Generate, Params, Task, task_name
from bench.measures import Conditions, Measure, SampleCost, TrainCost

SCHEMA_VERSION = 2  # 1 had no replicates, no V100-days, no split of energy, no conditions


GENERATE = Generate()


class UserError(Exception):
    """A fault of the input, told in one line; the command line turns it into exit code 2."""


class Status(StrEnum):
    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    KILLED = "killed"


COMPUTE = "compute"  # beside the hyper-parameters in the name of a configuration, so none is named like it


class Compute(StrEnum):
    """How networks are evaluated: a cell's while sampling, a budget's while they train. Likelihoods are always as written."""

    REFERENCE = "reference"  # float32, as written
    FAST = "fast"  # compiled, channels last; in bfloat16 on a GPU, or on a processor that multiplies in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A data set as a task. `version` rises when its meaning changes. `shape` is (C, H, W) of the uint8 images."""

    dataset: str
    shape: tuple[int, int, int]
    n_classes: int
    task: Task = field(default_factory=Generate)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What every strategy of a suite gets alike. Training length is in images seen; `width` sizes the shared networks.

    `timing_s` limits the timing of a single image, `energy_s` is the shortest window over which energy is measured. `training` is how
    networks are evaluated while they train.
    """

    train_images: int
    train_batch: int = 128
    width: int = 32
    n_samples: int = 1024
    batch_size: int = 256
    nll_images: int = 256
    timing_s: float = 3.0
    energy_s: float = 10.0
    training: Compute = Compute.REFERENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run. Its `id` hashes everything that could change its numbers, the device and the clock apart.

    `params` holds every hyper-parameter; `shown` those that the suite or the card's sweep chose, for people to read.
    """

    strategy: str
    params: Params
    shown: Params
    workload: Workload
    budget: Budget
    extractors: tuple[str, ...]
    seed: int
    code_hash: str
    asset_ids: dict[str, str]
    reference_hash: str
    protocol: int
    compute: Compute = Compute.REFERENCE

    @property
    def id(self) -> str:
        identity = dataclasses.asdict(self)
        del identity["shown"]
        if self.compute is Compute.REFERENCE:
            del identity["compute"]  # records are older than the choice
        if self.budget.training is Compute.REFERENCE:
            del identity["budget"]["training"]  # and than this one
        return digest(identity)

    @property
    def terms(self) -> tuple[object, ...]:
        """What two cells must have in common for their figures to be compared."""
        return self.workload, self.budget, self.reference_hash, self.protocol

    @property
    def label(self) -> str:
        """How a person tells the cell: name, chosen parameters, task unless it is `Generate`, seed."""
        return f"{configuration(self.strategy, self.shown, self.workload.task)} seed {self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where and with what a record was made. Versions by package name; `device` is the name that ranks are kept apart by."""

    device: str
    host: str
    system: str
    versions: dict[str, str]
    git: str | None = None
    started: str
    wall_s: float
    conditions: Conditions | None = None
    phases_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One cell's outcome: everything that reports read."""

    cell: Cell
    card: Card
    status: Status
    reason: str | None = None
    train: TrainCost | None = None
    inherited: dict[str, TrainCost]
    sample: SampleCost | None = None
    scores: dict[str, Measure]
    provenance: Provenance
    samples_png: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.status is not Status.OK and not self.reason:
            raise ValueError(f"a record with status {self.status} needs a reason")


def configuration(strategy: str, params: Params, task: Task = GENERATE) -> str:
    """`eds.representation.ddim[steps=50]`, `eds.guidance.sdedit[strength=0.5] (edit)`."""
    inside = ", ".join(f"{k}={v}" for k, v in sorted(params.items()))
    name = f"{strategy}[{inside}]" if inside else strategy
    return name if isinstance(task, Generate) else f"{name} ({task_name(task)})"


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
