"""Cells of every task from start to record on the GPU that the processor plays: the same scores, and a GPU's figures."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from bench.harness.assets import trained as assets
from bench.harness.plan.cells import Options, plan
from bench.harness.run.messages import CellJob, Done, Setup, ShardJob
from bench.harness.run.worker import Workshop
from bench.measures import EnergySource, measured
from bench.meters.energy import meter as energy
from bench.metrics.extractors.efficientnet_lite0 import efficientnet
from bench.records.store import Store, read_record
from bench.registry import discover
from bench.suites.suite import load
from bench.testing.played import GPU, HOST, played_gpu
from bench.values import Cell, Record, Status
from tests.conftest import TINY_SUITE
from tests.fakes import UUID, FakeNvml, value

BYTES = 12_345
STRATEGIES = {  # with the task that its first cell is of
    "eds.representation.ddim": "generate",
    "eds.score_sde.pf_ode": "generate",
    "eds.guidance.sdedit": "edit",
    "eps.training.ddrm": "restore",
    "eds.guidance.vdm": "video",
    "eps.training.fsdm": "few_shot",
}


class RunningNvml(FakeNvml):
    """A card that uses 300 W."""

    def __init__(self) -> None:
        super().__init__(mw=300_000)

    @property  # type: ignore[override]
    def mj(self) -> int:
        return round(time.monotonic() * 300_000)

    @mj.setter
    def mj(self, _value: int | None) -> None: ...


@pytest.fixture(scope="module")
def driver() -> Iterator[list[torch.device]]:
    """What the driver would answer. Gives the devices that were waited for."""
    waited: list[torch.device] = []
    nvml = RunningNvml()
    answers = {
        "synchronize": waited.append,
        "get_device_name": lambda _: "NVIDIA H100 80GB HBM3",
        "get_device_properties": lambda _: SimpleNamespace(uuid=UUID),
        "reset_peak_memory_stats": lambda _: None,
        "memory_allocated": lambda _: 0,
        "max_memory_allocated": lambda _: BYTES,
        "empty_cache": lambda: None,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        stack.enter_context(patch.object(assets, "load_file", lambda path, device: {k: x.to(device) for k, x in load_file(path).items()}))
        find, idle = energy.gpu_energy, measured(70.0)
        stack.enter_context(patch.object(energy, "gpu_energy", lambda uuid: find(uuid, nvml)))
        stack.enter_context(patch.object(energy, "idle_power_w", lambda _: idle))
        energy._idle_power.cache_clear()
        yield waited
        energy._idle_power.cache_clear()


class Room:
    """A worker of one device, with the store that it writes to."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.store = Store(folder)
        setup = Setup(device=str(device), options=Options(), assets=folder / "assets", store=folder)
        self.shop = Workshop(setup, lambda _: None)

    def record(self, cell: Cell) -> Record:
        done = self.shop.do(CellJob(cell))
        assert done == Done(Status.OK), done
        return read_record(self.store.record_path(cell.id))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory, driver: list[torch.device]) -> dict[torch.device, Room]:
    return {device: Room(tmp_path_factory.mktemp(device.type), device) for device in (HOST, GPU)}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cell]:
    """The first cell of each strategy."""
    suite = tmp_path_factory.mktemp("suite") / "tiny.toml"
    suite.write_text(TINY_SUITE.split("[strategies]")[0])
    found = plan(load(str(suite)), discover(), Options(only=tuple(STRATEGIES))).cells
    return {cell.strategy: cell for cell in reversed(found)}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_cell_has_the_processors_scores_and_the_gpus_costs(
    name: str, rooms: dict[torch.device, Room], driver: list[torch.device], cells: dict[str, Cell]
) -> None:
    cell = cells[name]
    assert cell.workload.task.kind == STRATEGIES[name]
    here = rooms[HOST].record(cell)
    driver.clear()
    with played_gpu():
        there = rooms[GPU].record(cell)
    assert there.status is Status.OK and there.scores.keys() == here.scores.keys()
    for key, score in here.scores.items():
        assert there.scores[key] == score, key
    assert there.sample is not None and here.sample is not None and there.train is not None
    assert (there.sample.nfe_per_image, there.sample.flops_per_image) == (here.sample.nfe_per_image, here.sample.flops_per_image)
    assert value(there.sample.peak_bytes) == BYTES and there.sample.peak_bytes.method == "cuda allocated"
    assert there.sample.energy.source is EnergySource.NVML_COUNTER and value(there.sample.energy.idle_w) == 70
    assert value(there.sample.energy.kwh) > value(there.sample.energy.gpu_kwh) > 0
    assert value(there.train.gpu_days) > 0 and value(there.train.v100_days) > 0
    assert there.provenance.device == "NVIDIA H100 80GB HBM3" and set(driver) == {GPU} and len(driver) > 10


def test_a_share_is_drawn_and_read_back(rooms: dict[torch.device, Room], cells: dict[str, Cell]) -> None:
    """By two workers of the GPU, the second of which loads the shared networks from disk."""
    cell = replace(cells["eds.representation.ddim"], seed=1)
    here, room = rooms[HOST].record(cell), rooms[GPU]
    with played_gpu():
        assert room.shop.do(ShardJob(cell, 0, 8)) == Done(Status.OK)
        drawn = [path.stat().st_size for path in room.store.shard_folder(cell.id).iterdir()]
        there = Room(room.store.folder, GPU).record(cell)
    assert len(drawn) == 1 and there.scores == here.scores
    assert there.inherited.keys() == {"denoiser"} and not room.store.shard_folder(cell.id).exists()


def test_the_extractor_of_a_wheel() -> None:
    images = torch.randint(256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = efficientnet(HOST)(images, HOST)
    with played_gpu():
        found = efficientnet(GPU)(images, GPU)
        efficientnet(HOST)  # the network is one, and goes back
    assert found.logits is not None and expected.logits is not None
    assert torch.equal(found.pooled, expected.pooled) and torch.equal(found.logits, expected.logits)
