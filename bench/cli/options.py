"""The options that commands share, and what they mean together."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from bench.values import Compute, UserError

if TYPE_CHECKING:
    import torch

    from bench.harness.plan.cells import Options
    from bench.harness.run.engine import Engine
    from bench.harness.run.messages import Setup
    from bench.records.store import Store
    from bench.registry import Registry
    from bench.suites.suite import Suite

DEFAULT_SUITE = "digits"


class EngineName(StrEnum):
    """What runs the cells: this machine's own workers, or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
SuiteName = Annotated[str, typer.Argument(metavar="[SUITE]", help="A suite's name, or a path to a TOML file.")]
Plugins = Annotated[Optional[list[Path]], typer.Option("--plugin", metavar="FILE", help="A Python file with a strategy of yours.")]
Only = Annotated[Optional[list[str]], typer.Option(metavar="NAMES", help="Strategies, comma-separated or one an option.")]
Seeds = Annotated[Optional[str], typer.Option(metavar="NUMBERS", help="Comma-separated seeds, in place of the suite's.")]
Results = Annotated[Optional[Path], typer.Option(metavar="DIR", help="Where records lie; by default results/local.")]
Device = Annotated[Optional[str], typer.Option(help="cpu or cuda; by default CUDA where there is one.")]
Data = Annotated[Optional[Path], typer.Option(metavar="DIR", help="Folder that holds the data set.")]
Download = Annotated[bool, typer.Option("--download", help="Allow downloads of data and Inception weights.")]
WeightsOption = Annotated[Optional[Path], typer.Option(metavar="FILE", help="torch-fidelity's Inception weights.")]
WhichCompute = Annotated[
    Optional[Compute], typer.Option("--compute", help="fast: compiled, channels last, in bfloat16 where the device can; rows of their own.")
]
WhichTraining = Annotated[
    Optional[Compute], typer.Option("--training", help="In place of the suite's. fast: as for --compute; a budget of its own.")
]
Country = Annotated[Optional[str], typer.Option(metavar="ISO", help="Where the electricity comes from (FRA); by default the world's mean.")]
MaxMinutes = Annotated[Optional[float], typer.Option(help="Start no cell that cannot finish within this time.")]
Workers = Annotated[
    int, typer.Option(min=1, metavar="N", help="Cells that run side by side on this machine's processor, each on its part of the cores.")
]
WhichEngine = Annotated[EngineName, typer.Option("--engine", help="This machine's workers, or a Ray cluster (extra `cluster`).")]
Address = Annotated[
    Optional[str], typer.Option(metavar="HOST:PORT", help="The Ray cluster's; by default one that runs here, or a new one.")
]
Out = Annotated[Optional[Path], typer.Option(metavar="DIR", help="Where the report goes.")]


def resolve(
    suite: str,
    only: list[str] | None,
    plugin: list[Path] | None,
    seeds: str | None,
    data: Path | None,
    download: bool,
    weights: Path | None,
    country: str | None,
    compute: Compute | None = None,
    training: Compute | None = None,
) -> "tuple[Suite, Registry, Options]":
    """Suite, registry and options from what the user said; tells of broken entry points on the way."""
    from bench.meters.energy.carbon import place
    from bench.suites.suite import load

    chosen, numbers = trained_by(load(suite), training), _numbers(seeds)  # the cheap faults first: what follows imports torch
    place(country)

    from bench.data.datasets import DataSource
    from bench.harness.plan.cells import Options
    from bench.registry import discover

    plugins = tuple(path.resolve() for path in plugin or ())
    registry = discover(plugins)
    for problem in registry.problems:
        print(f"not loaded: {problem.origin}: {problem.reason}", file=sys.stderr)
    names = tuple(name.strip() for given in only or () for name in given.split(","))
    source = DataSource(folder=data, download=download)
    options = Options(data=source, plugins=plugins, only=names, seeds=numbers, inception_weights=weights, country=country, compute=compute)
    return chosen, registry, options


def trained_by(suite: "Suite", training: Compute | None) -> "Suite":
    """The suite, its networks trained in this way where the user says one."""
    return suite if training is None else suite.model_copy(update={"budget": replace(suite.budget, training=training)})


def divide(workers: int) -> None:
    """Give each worker its part of the cores. Before torch is imported, here and in them."""
    from bench.meters.processor import THREADS, cores

    if workers > cores():
        raise UserError(f"--workers {workers} asked for, and this machine has {cores()} cores")
    if workers > 1:
        os.environ[THREADS] = str(cores() // workers)


def device_of(name: str | None, workers: int) -> "torch.device":
    """The device asked for, or the best there is; a GPU is not divided."""
    from bench.harness.machine import pick_device

    device = pick_device(name)
    if workers > 1 and device.type == "cuda":
        raise UserError("--workers divides a processor; a GPU has one worker: say --device cpu, or leave it out")
    return device


def engine_of(name: EngineName, address: str | None, workers: int) -> "Callable[[Setup], Engine]":
    """What opens the engine once the run knows its setup."""
    if name is EngineName.RAY:
        if workers > 1:
            raise UserError("--workers goes with --engine local: a cluster has a worker a device")
        from bench.harness.run.engines.ray import RayEngine

        return partial(RayEngine, address=address)
    if address:
        raise UserError("--address goes with --engine ray")
    from bench.harness.run.engines.local import local_engine

    return partial(local_engine, workers=workers)


def recorded(suite: str, results: Path | None) -> "tuple[str, Path, list[Store]]":
    """The suite's own name, and the root and stores of its records: the user's own, or else the published ones."""
    from bench.records.store import LOCAL, PUBLISHED, stores
    from bench.suites.suite import load

    name = load(suite).name
    roots = [results] if results else [LOCAL, PUBLISHED]
    root = next((r for r in roots if stores(r, name)), roots[-1])
    return name, root, stores(root, name)


def report_folder(root: Path, suite: str) -> Path:
    """Published records report into reports/, a user's own into reports/local, any other folder's beside its records."""
    from bench.records.store import LOCAL, PUBLISHED

    homes = {PUBLISHED: Path("reports"), LOCAL: Path("reports/local")}
    return homes.get(root, root / "reports") / suite


def _numbers(text: str | None) -> tuple[int, ...] | None:
    try:
        return tuple(int(part) for part in text.split(",")) if text else None
    except ValueError:
        raise UserError(f"--seeds takes numbers with commas between, not '{text}'") from None
