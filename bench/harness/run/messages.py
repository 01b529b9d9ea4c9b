"""What a runner and its workers tell each other."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.harness.plan.cells import Options
from bench.values import Cell, Status


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker needs to know once. `workers` are those that the processor is divided among."""

    device: str
    options: Options
    assets: Path
    store: Path
    workers: int = 1

    def on(self, device: str) -> "Setup":
        return replace(self, device=device)


@dataclass(frozen=True)
class AssetJob:
    """Train or load an asset for the workload of this cell."""

    name: str
    cell: Cell

    @property
    def title(self) -> str:
        return f"asset {self.name}"


@dataclass(frozen=True)
class CellJob:
    """Run a cell."""

    cell: Cell

    @property
    def title(self) -> str:
        return self.cell.label


@dataclass(frozen=True)
class ShardJob:
    """Draw the samples from `first` on, `count` of them, of a cell that several slots share; whoever runs the cell takes them as drawn."""

    cell: Cell
    first: int
    count: int

    @property
    def title(self) -> str:
        return f"{self.cell.label}, samples {self.first} to {self.first + self.count - 1}"


Job = AssetJob | CellJob | ShardJob


@dataclass(frozen=True)
class Tick:
    """Progress within a job, in images."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Done:
    """A job's end. A cell's record is on disk by now."""

    status: Status
    reason: str | None = None


@dataclass(frozen=True)
class Refused:
    """The input is at fault; the whole run ends with this line."""

    message: str


@dataclass(frozen=True)
class Lost:
    """The machine under the job is gone, through no fault of the job: it may run elsewhere."""

    reason: str


Message = Tick | Done | Refused | Lost
