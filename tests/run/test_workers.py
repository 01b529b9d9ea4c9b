"""Several workers on one processor: what they are given, what a device is called, and that a fit is made once."""

import json
import os
from pathlib import Path

import pytest
import torch

from bench.cli.options import EngineName, divide, engine_of
from bench.harness.machine import device_name
from bench.harness.plan.cells import Options, fit_key, plan
from bench.harness.run.messages import Setup
from bench.measures import EnergySource, Measure
from bench.meters.energy import host
from bench.meters.processor import THREADS, cores
from bench.records.store import read_record
from bench.registry import discover
from bench.suites.suite import load
from bench.values import UserError
from tests.conftest import Run
from tests.fakes import CPU


def test_the_devices_name_says_how_much_of_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    of = cores()
    for asked in (str(of), str(of + 1), "", "0", "1,2"):
        monkeypatch.setenv(THREADS, asked)
        assert device_name(CPU).endswith(f", {of} cores"), asked
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(8))
    monkeypatch.setenv(THREADS, "3")
    assert device_name(CPU).endswith(", 3 of 8 cores")


def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which one thread uses one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(2))
    monkeypatch.setenv(THREADS, "1")


def test_the_cores_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(8))
    for workers, threads in ((1, "5"), (2, "4"), (3, "2"), (8, "1")):
        monkeypatch.setenv(THREADS, "5")  # what the user says stands where nothing is divided
        divide(workers)
        assert os.environ[THREADS] == threads
    with pytest.raises(UserError, match="--workers 9 asked for, and this machine has 8 cores"):
        divide(9)
    with pytest.raises(UserError, match="--engine local"):
        engine_of(EngineName.RAY, None, 2)


def test_a_gpu_is_not_divided(bench: Run, tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is written."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    two_cores(monkeypatch)
    for command in ("run", "plan"):
        said = bench(command, tiny_suite, "--device", "cuda", "--workers", 2, "--results", tmp_path / "none", check=(2,))
        assert "a GPU has one worker" in said.stderr
    assert not (tmp_path / "none").exists()
    setup = Setup(device="cuda:0", options=Options(), assets=tmp_path, store=tmp_path)
    assert engine_of(EngineName.LOCAL, None, 1)(setup).slots == 1


def test_a_plan_for_several_workers(bench: Run, tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the cells that a run of as many threads a worker has done."""
    two_cores(monkeypatch)
    words = (tiny_suite, "--device", "cpu", "--only", "eds.representation.ddim", "--results", tmp_path / "results", "--json")
    bench("run", *words)
    plans = [json.loads(bench("plan", *words, "--seeds", "0,1", "--workers", workers).stdout) for workers in (1, 2)]
    states = [[cell["state"] for cell in plan["cells"]] for plan in plans]
    assert states[0] == states[1] and set(states[0]) == {"done", "to do"}


@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_two_workers_make_the_records_of_one(bench: Run, tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for workers in (1, 2):
        monkeypatch.setenv(THREADS, "1")
        said = bench("run", tiny_suite, "--device", "cpu", "--workers", workers, "--json", "--results", tmp_path / str(workers))
        outcome = json.loads(said.stdout)
        assert outcome["ok"] == 3
        records = [read_record(path) for path in sorted(Path(outcome["records"]).glob("records/*.json"))]
        found.append({r.cell.id: r.scores for r in records})
    assert found[0] == found[1] and len(found[0]) == 3


def test_a_worker_among_others_reads_no_counter_of_the_whole_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def kwh() -> Measure:
        here.start()
        return here.kwh()

    here = host.Host()
    assert kwh().value is not None
    monkeypatch.setattr(host.Host, "sharers", 2)
    assert kwh().value is not None or here.source is EnergySource.RAPL  # a model of this process's load
    monkeypatch.setattr(host.Host, "source", EnergySource.RAPL)
    assert kwh().reason == "not measured: RAPL counts the whole processor, which 2 workers share"


def test_cells_of_one_fitted_model_follow_each_other(tmp_path: Path) -> None:
    """Though another stands between them in the sweep."""
    text = 'title = "x"\ndataset = "digits"\n[budget]\ntrain_images = 9\n[strategies]\n'
    (tmp_path / "between.toml").write_text(f'{text}"eps.retrieval.rdm" = [{{ k = 4 }}, {{ k = 0 }}, {{ k = 4, steps = 5 }}]\n')
    registry = discover()
    cells = plan(load(str(tmp_path / "between.toml")), registry, Options()).cells
    assert [(c.params["k"], c.params["steps"]) for c in cells] == [(4, 100), (4, 5), (0, 100)]
    assert len({fit_key(c, registry.get(c.strategy).card) for c in cells}) == 2
