"""Adding a strategy and comparing it is one command: what runs, what is taken over, and what is said."""

import base64
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from bench.cards import Params
from bench.harness.machine import device_name
from bench.harness.plan.cells import Options, plan
from bench.harness.plan.comparison import narrowed, take_over
from bench.harness.run.session import open_store
from bench.records.store import Store
from bench.registry import discover
from bench.suites import suite
from bench.values import Record, Status, UserError
from tests.conftest import Run
from tests.house.test_suite_and_registry import PLUGIN
from tests.made_records import failed_record, made_record

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"


@pytest.mark.parametrize(
    ("ours", "theirs", "strategies"),
    [
        ("ddim", "ddpm", {DDIM: [{"steps": 10}, {"steps": 50}], DDPM: [{"steps": 10}, {"steps": 50}]}),
        ("ddim[steps=4]", DDPM + "[steps=50]", {DDIM: [{"steps": 4}], DDPM: [{"steps": 50}]}),
        ("ddim[steps=7]", "ddpm[steps=9]", {DDIM: [{"steps": 7}], DDPM: [{"steps": 9}]}),
        ("ddim[eta=0, steps=10]", "ddim[steps=50, eta=0.5]", {DDIM: [{"steps": 10}, {"steps": 50, "eta": 0.5}]}),
        ("gaussian", "ddim", {"control.gaussian": [{}], DDIM: [{"steps": 4}, {"steps": 10}, {"steps": 50}]}),
    ],
)
def test_only_what_will_be_compared_is_planned(ours: str, theirs: str, strategies: dict[str, list[Params]]) -> None:
    cut, options = narrowed(suite.load("digits"), discover(), Options(seeds=(3,)), ours, theirs)
    assert cut.strategies == {name: tuple(sweep) for name, sweep in strategies.items()}
    assert set(options.only) == set(strategies) and options.seeds == (3,)
    assert cut.budget == suite.load("digits").budget and cut.sweep_limit >= max(map(len, strategies.values()))


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("dimm", "ddpm", "no strategy 'dimm' is registered; did you mean 'eds.representation.ddim'"),
        ("ddim", "edm_sampler", r"shares its swept parameters.*ddim\[steps=4\].*edm_sampler\[steps=18\]"),
        ("ddim[steps=0]", "ddpm", "steps must be 1 or more"),
        ("ddim[step=10]", "ddpm", "did you mean 'steps'"),
        ("ddim", "sdedit", "no task in common"),
    ],
)
def test_what_cannot_be_compared_runs_nothing(ours: str, theirs: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        narrowed(suite.load("digits"), discover(), Options(), ours, theirs)


def test_published_records_of_the_very_cell_and_device_are_taken_over(tmp_path: Path) -> None:
    published, mine = Store(tmp_path / "published"), Store(tmp_path / "mine")
    good = made_record(DDIM, steps=10, quality=1.0)
    known, elsewhere = made_record(DDIM, steps=20, quality=1.0), made_record(DDIM, steps=30, quality=1.0, device="GPU test")
    failed, damaged = failed_record(DDPM), made_record(DDPM, steps=50, quality=1.0)
    for record in (good, known, elsewhere, failed, damaged):
        published.write(record)
        published.sample_path(record.cell.id).parent.mkdir(exist_ok=True)
        published.sample_path(record.cell.id).write_bytes(b"picture")
    published.record_path(damaged.cell.id).write_text("{")
    own = dataclasses.replace(known, provenance=dataclasses.replace(known.provenance, host="mine"))
    mine.write(own)
    edited = dataclasses.replace(good.cell, code_hash="edited")
    cells = [record.cell for record in (good, known, elsewhere, failed, damaged)]
    assert take_over(published, mine, [*cells, edited], "CPU test") == [good.cell]
    assert sorted(mine.records(), key=lambda r: r.cell.label) == [good, own]
    assert mine.sample_path(good.cell.id).read_bytes() == b"picture" and not mine.sample_path(known.cell.id).is_file()
    assert take_over(published, mine, cells, "CPU test") == []
    failing = dataclasses.replace(good, status=Status.FAILED, reason="a test")
    mine.write(failing)
    assert take_over(published, mine, cells, "CPU test") == [good.cell] and good in list(mine.records())


def publish_ddim(root: Path) -> tuple[Store, Record]:
    """A record of the cell that `smoke` has of DDIM, made by hand, among the published ones under this root."""
    device = torch.device("cpu")
    cut, options = narrowed(suite.load("smoke"), discover(), Options(), "ddim", "ddim")
    (cell,) = plan(cut, discover(), options).cells
    record = made_record(DDIM, steps=1, quality=1.0, device=device_name(device))
    store = open_store(root, cut, device)
    record = dataclasses.replace(record, cell=cell, samples_png=f"samples/{cell.id}.png")
    store.write(record)
    store.sample_path(cell.id).parent.mkdir()
    store.sample_path(cell.id).write_bytes(b"picture")
    return store, record


def test_one_command_runs_what_is_missing_and_compares(bench: Run, tmp_path: Path) -> None:
    """The baseline is published, the plug-in is run; what a person reads goes to stderr, so that stdout is JSON alone."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    published, baseline = publish_ddim(tmp_path / "results")
    done = bench("compare", "--plugin", "mine.py", "--suite", "smoke", "--device", "cpu", "--gate", "cost", "--json", check=(0, 1))
    said = json.loads(done.stdout)
    assert said["run"] == {"planned": 2, "reused": 0, "published": 1, "ok": 1, "failed": 0, "not_started": 0}
    assert "user.mine against eds.representation.ddim: 2 cells, 0 done, 1 taken from published records, 1 to run\n" in done.stderr
    assert "  to run: user.mine seed 0\n" in done.stderr and "1 to do:\n  time: " in done.stderr

    store = Store(tmp_path / "results" / "local" / "smoke" / published.folder.name)
    ours, theirs = sorted(store.records(), key=lambda r: r.cell.strategy, reverse=True)
    assert ours.cell.strategy == "user.mine" and ours.status is Status.OK and theirs == baseline
    (contest,) = said["contests"]
    found = {q["key"]: q for q in contest["quantities"]}
    assert contest["pair"].startswith("user.mine against eds.representation.ddim[steps=")
    assert (
        found["fd_digits"]["per_seed"][0]["ours"]["value"] == ours.scores["fd_digits"].value
        and found["fd_digits"]["found"]["theirs"] == 1.0
    )
    assert found["flops_per_image"]["verdict"] == "better" and found["flops_per_image"]["found"]["theirs"] == 2e9

    page = tmp_path / said["page"]
    assert page == tmp_path / "reports/local/smoke/compare-user-mine-eds-representation-ddim.html"
    grids = (store.sample_path(ours.cell.id).read_bytes(), b"picture")
    assert all(base64.b64encode(grid).decode() in page.read_text() for grid in grids)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ddim"], "name both sides"),
        (["ddim", "--plugin", "mine.py"], "name both sides"),
        (["ddim", "ddpm", "--seeds", "1"], "go with --plugin"),
        (["ddim", "ddpm", "--plugin", "none.py"], "plug-in not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line(bench: Run, words: list[str], message: str) -> None:
    done = bench("compare", *words, check=(2,))
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("bench: ") and message in done.stderr
