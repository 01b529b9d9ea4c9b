"""What the harness adds to a cell, what a second worker saves, and what merging shards costs. Printed; only whole runs are asserted."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bench.harness.plan.cells import Options
from bench.harness.run.engines.local import LocalEngine
from bench.harness.run.progress import Display
from bench.harness.run.session import run
from bench.metrics.frechet import Statistics
from bench.registry import discover
from bench.suites.suite import load
from tests.conftest import TINY_SUITE, forget_plugins
from tests.house.test_suite_and_registry import PLUGIN
from tests.performance.ratios import compare

CPU = torch.device("cpu")
CELLS, SECONDS = 8, 2.0
WORK = {
    "wait-bound": f"import time; time.sleep({SECONDS})",
    "CPU-bound": f"""import time
        end = time.thread_time() + {SECONDS}
        while time.thread_time() < end:
            sum(range(1000))""",
}


@pytest.mark.parametrize("kind", WORK)
def test_one_and_two_workers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that wait, or keep one processor busy, for two seconds while they are fitted, on one worker and on two."""
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    took = {workers: seconds_a_cell(tmp_path / str(workers), WORK[kind], workers) for workers in (1, 2)}
    beside = took[1] - SECONDS
    print(f"\n{kind}, cells of {SECONDS} s: {took[1]:.2f} s a cell on one worker, {took[2]:.2f} s on two;", end=" ")
    print(f"efficiency {took[1] / (2 * took[2]):.2f} (goal 0.9 where cells wait); {beside:.2f} s a cell beside its work")


def seconds_a_cell(folder: Path, work: str, workers: int) -> float:
    """Once every worker has done its first cell, and is up as in a run of hours."""
    forget_plugins()
    folder.mkdir()
    plugin = folder / "works.py"
    text = PLUGIN.replace("return kit.denoiser()", f"{work}\n        return __import__('torch').nn.Identity()")
    text = text.replace("assets=(AssetName.DENOISER,)", f"sweep=tuple({{'k': k}} for k in range({CELLS}))")
    plugin.write_text(text.replace("    def fit(", "    k: int = 0\n\n    def fit("))
    (folder / "tiny.toml").write_text(TINY_SUITE.split("[strategies]")[0] + '[strategies]\n"user.works" = []\n')
    suite = load(str(folder / "tiny.toml")).model_copy(update={"strategies": {}})
    lines = Clocked()
    options = Options(plugins=(plugin,))
    outcome = run(
        suite, discover(options.plugins), options, root=folder / "results", device=CPU, max_minutes=None, display=lines,
        engine=lambda setup: LocalEngine([setup] * workers),
    )  # fmt: skip
    assert outcome.ok == CELLS
    return (lines.ends[-1] - lines.ends[workers - 1]) / (CELLS - workers)


class Clocked(Display):
    """Notes when cells end."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.ends: list[float] = []

    def cell_done(self, *_what: object) -> None:
        self.ends.append(time.monotonic())


@pytest.mark.parametrize("shards", [1, 10, 100])
def test_merging_shards(shards: int) -> None:
    """Statistics of 50,000 images with 1,280 features, by so many parts, against those by one."""
    features = torch.randn(50_000, 1280, generator=torch.Generator().manual_seed(0))

    def merged(parts: int) -> Callable[[], Statistics]:
        kept = [Statistics.of(part) for part in features.chunk(parts)]
        return lambda: sum(kept[1:], start=kept[0])

    from_parts, whole = merged(shards)(), Statistics.of(features)
    assert torch.allclose(from_parts.outer, whole.outer, rtol=1e-10, atol=1e-6)
    compare(f"the statistics themselves against merging {shards} shards", merged(shards), lambda: Statistics.of(features), CPU, "none", 3)
