"""Shared fixtures. One thread, here and in the workers: the networks of the tests are too small for two."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir, nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from bench.cli.main import main
from bench.identity import reach
from bench.registry import REGISTRY, USER
from bench.values import Record
from tests import workers
from tests.made_records import failed_record, made_record
from tests.processes import warm

torch.set_num_threads(1)

TINY_SUITE = """
title = "Tiny"
dataset = "digits"
extractors = ["own"]
cell_minutes = 2

[budget]
train_images = 128
train_batch = 32
width = 8
n_samples = 16
batch_size = 8
nll_images = 4
timing_s = 0.01
energy_s = 0.01

[strategies]
"control.gaussian" = [{}]
"eds.representation.ddim" = [{ steps = 2 }, { steps = 4 }]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    workers.in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return workers.count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return workers.ByFile(config, log)


@pytest.fixture
def tiny_suite(tmp_path: Path) -> Path:
    """A suite of three cells that runs in seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_SUITE)
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Run:
    """The command line in an empty folder: in this process, so that nothing is imported again; its workers are processes of their own.

    Reports have pictures only where asked, as drawing them takes longer than such runs.
    """
    warm()

    def run(*words: object, check: Sequence[int] = (0,), pictures: bool = False) -> subprocess.CompletedProcess[str]:
        out, err = StringIO(), StringIO()
        argv = ["bench", *map(str, words)]
        with (
            chdir(tmp_path),
            redirect_stdout(out),
            redirect_stderr(err),
            patch.object(sys, "argv", argv),
            nullcontext() if pictures else patch("bench.report.plots.draw", return_value=[]),
            pytest.raises(SystemExit) as stop,
        ):
            main()
        forget_plugins()
        code = stop.value.code or 0
        assert code in check, f"exit {code}\n{out.getvalue()}\n{err.getvalue()}"
        return subprocess.CompletedProcess(argv, int(code), out.getvalue(), err.getvalue())

    return run


def forget_plugins() -> None:
    """As a process does that ends."""
    for name in [name for name in sys.modules if name.startswith(f"{USER}.")]:
        del sys.modules[name]
        REGISTRY.classes.pop(name, None)
    reach.forget()


@pytest.fixture(scope="session")
def records() -> list[Record]:
    """Three records as a run would leave them: two measured, one failed."""
    return [
        made_record("eds.representation.ddim", steps=50, quality=1.0),
        made_record("eds.state_space.ddpm", steps=50, quality=2.0),
        failed_record("eps.training.p2"),
    ]
