"""One cell on several slots: shares of its samples, and the same record as on one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from bench.harness.plan.cells import Options
from bench.harness.run.engines.local import LocalEngine
from bench.harness.run.progress import Display
from bench.harness.run.runner import LEAST, shard_jobs
from bench.harness.run.session import run
from bench.registry import discover
from bench.suites.suite import load
from tests.conftest import TINY_SUITE
from tests.made_records import made_cell

SUITE = TINY_SUITE.split("[strategies]")[0].replace("n_samples = 16", "n_samples = 1300").replace("batch_size = 8", "batch_size = 256")


@pytest.mark.parametrize(
    ("total", "slots", "shares"),
    [(1300, 2, [(0, 768)]), (1300, 3, [(0, 512), (512, 512)]), (50_000, 40, [(k * 1280, 1280) for k in range(39)]), (LEAST, 8, [])],
)
def test_even_shares_and_the_last_for_the_cell(total: int, slots: int, shares: list[tuple[int, int]]) -> None:
    cell = made_cell("eds.representation.ddim", steps=2)
    cell = dataclasses.replace(cell, budget=dataclasses.replace(cell.budget, n_samples=total, batch_size=256))
    assert [(job.first, job.count) for job in shard_jobs([cell], {cell.strategy}, slots)] == shares
    assert list(shard_jobs([cell], set(), slots)) == []  # each slot would train a model of its own


class Lines(Display):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


def test_two_slots_make_the_record_of_one(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SUITE + '[strategies]\n"eds.representation.ddim" = [{ steps = 2 }]\n')
    suite, lines, found = load(str(tmp_path / "tiny.toml")), Lines(), list[Any]()
    for slots in (1, 2):
        root = tmp_path / str(slots)
        outcome = run(
            suite, discover(), Options(), root=root, device=torch.device("cpu"), max_minutes=None, display=lines,
            engine=lambda setup, slots=slots: LocalEngine([setup] * slots),
        )  # fmt: skip
        assert outcome.ok == 1 and list(root.glob("**/*.safetensors.*")) == [] and not list(outcome.store.folder.glob("shards/*"))
        [path] = outcome.store.folder.glob("records/*.json")
        record = json.loads(path.read_bytes())
        found.append((record["scores"], record["sample"]["nfe_per_image"], record["sample"]["flops_per_image"]))
    assert found[0] == found[1]
    assert [line for line in lines.said if "samples 0 to 767: ok" in line]
