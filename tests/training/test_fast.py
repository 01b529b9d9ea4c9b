"""Networks evaluated fast draw the images that they draw as written, are counted alike, and stand in rows of their own."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import leading
from bench.diffusion.loops import ddim
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.harness.assets import compiled as fast
from bench.harness.plan.cells import Options, plan
from bench.harness.run.messages import CellJob, Done, Setup
from bench.harness.run.worker import Workshop
from bench.measures import measured
from bench.meters.calls import counted
from bench.nets.ema import seeded
from bench.records.store import Store, read_record
from bench.registry import discover
from bench.report.comparison.matching import matches
from bench.report.leaderboard.board import board
from bench.report.survey.claims import ClaimVerdict, audit
from bench.suites.suite import load
from bench.values import Cell, Compute, Record, Status
from tests.fakes import CPU
from tests.made_records import made_record
from tests.oracles import Small

STEPS = 50


class Model(nn.Module):
    """A fitted model: its one network is the denoiser."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.denoiser = EpsDenoiser(Small()).eval()


@pytest.mark.parametrize(("dtype", "most", "least"), [(torch.float32, 1e-4, 0.0), (torch.bfloat16, 0.1, 1e-4)])
@torch.no_grad()
def test_fifty_steps_end_where_they_end_as_written(dtype: torch.dtype, most: float, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """`most` and `least` of the largest difference; bfloat16 rounds by 2^-9, which shows."""
    monkeypatch.setattr(fast, "number_format", lambda _device: dtype)
    model, labels = Model(), torch.arange(4)
    sigmas = leading(sigma_of(linear_alpha_bar()), STEPS)
    noise = SeededDraws(labels).normal(1, 8, 8) * float((1 + sigmas[0] ** 2) ** 0.5)
    found = {}
    for compute in Compute:
        with fast.evaluated(model, compute, CPU), counted(model) as calls:
            x = ddim(model.denoiser, noise, sigmas, labels, SeededDraws(labels))
        found[compute] = x, dict(calls.rows)
    (plain, rows), (quick, quick_rows) = found[Compute.REFERENCE], found[Compute.FAST]
    assert least <= float((quick - plain).abs().max()) / max(1.0, float(plain.abs().max())) <= most and plain.std() > 0.1
    assert quick.dtype is torch.float32
    assert rows == quick_rows == {"denoiser": 4 * STEPS}
    assert "forward" not in vars(model.denoiser)  # as written again


@pytest.mark.parametrize(
    ("has", "format"),
    [
        ({}, "float32"),
        ({"avx512_f": True, "amx_bf16": False, "avx512_bf16": False}, "float32"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True}, "bfloat16"),
    ],
)
def test_bfloat16_is_for_devices_that_multiply_in_it(has: dict[str, bool], format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast.torch.cpu, "get_capabilities", lambda: has)
    assert (fast.told_format(CPU), fast.told_format(torch.device("cuda"))) == (format, "bfloat16")


@torch.no_grad()
def test_what_cannot_be_compiled_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would evaluate it as written, which the record would call fast."""
    monkeypatch.setattr(fast, "RECOMPILATIONS", 1)
    model, x, labels = Model(), torch.ones(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(Exception, match="recompile_limit"), fast.evaluated(model, Compute.FAST, CPU):
        [model.denoiser(x[..., :side, :], torch.ones(4, dtype=torch.float64), labels) for side in (8, 6, 4)]


def test_it_is_as_written_again_after_a_fault() -> None:
    model = Model()
    with pytest.raises(TypeError), fast.evaluated(model, Compute.FAST, CPU):
        model.denoiser()
    assert "forward" not in vars(model.denoiser)


def test_records_say_what_compiling_cost(tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the compiler, which only counts: a real one takes longer than the cell."""
    compiled: list[object] = []
    monkeypatch.setattr(fast.torch, "compile", lambda forward: compiled.append(forward) or forward)
    cells = {compute: planned(tiny_suite, compute) for compute in Compute}
    assert cells[Compute.REFERENCE].id != cells[Compute.FAST].id
    assert cells[Compute.FAST].label == "eds.representation.ddim[compute=fast, steps=2] seed 0"
    store = Store(tmp_path / "store")
    workshop = Workshop(Setup(device="cpu", options=Options(), assets=tmp_path / "assets", store=store.folder), lambda _tick: None)
    assert [workshop.do(CellJob(cell)) for cell in cells.values()] == [Done(Status.OK, None)] * 2
    plain, quick = (read_record(store.record_path(cell.id)) for cell in cells.values())
    assert len(compiled) == 1
    assert plain.sample.compile_s.reason == plain.sample.break_even_images.reason == "not applicable: nothing is compiled"
    assert quick.sample.compile_s.value is not None and "batches of 1, 8" in quick.sample.compile_s.method
    assert (quick.sample.break_even_images.value or 1) > 0 and "images/s as written" in str(quick.sample.break_even_images)
    for name in ("steps", "nfe_per_image", "flops_per_image", "params"):
        assert getattr(plain.sample, name).value == getattr(quick.sample, name).value
    assert plain.scores["nll_bits_per_dim"] == quick.scores["nll_bits_per_dim"]


def test_the_largest_batch_that_fits_decides_on_the_break_even() -> None:
    """As written; where it does not fit compiled there are no figures."""
    room = [40]

    def call(count: int) -> Callable[[], object]:
        def sample() -> None:
            if count > room[0]:
                raise MemoryError("no room")

        return sample

    rival = fast.Rival(call, 128, CPU)
    assert "batches of 1, 32" in str(rival.compilation().seconds.method)
    room[0] = 30
    assert rival.compilation().seconds.reason == "not measured: a batch of 32 images fits as written, not compiled"
    room[0] = 0
    with pytest.raises(MemoryError):
        fast.Rival(call, 128, CPU)


def test_the_table_tells_of_compiling_where_something_was_compiled() -> None:
    plain = made_record("eds.representation.ddim", steps=2, quality=1.0)
    assert plain.sample is not None
    sample = dataclasses.replace(plain.sample, compile_s=measured(12.0), break_even_images=measured(3000.0))
    both = board([plain, dataclasses.replace(as_fast(plain, 1.0), sample=sample)])
    assert both.values["compile_s"].dropna().tolist() == [12.0]
    assert both.values["compile_breakeven"].dropna().tolist() == [3000.0]
    assert "compile_s" not in {column.key for column in board([plain]).columns}


def test_claims_and_comparisons_take_networks_as_written_unless_told() -> None:
    ddims = [made_record("eds.representation.ddim", steps=50, quality=1.0, seed=seed) for seed in (0, 1)]
    ddpms = [made_record("eds.state_space.ddpm", steps=50, quality=2.0, seed=seed) for seed in (0, 1)]
    quick = [as_fast(record, quality) for record, quality in zip(ddims, (3.0, 4.0))]
    every = [*ddims, *ddpms, *quick]
    assert [a.verdict for a in audit(every)] == [ClaimVerdict.REPRODUCED]
    assert audit([*quick, *ddpms])[0].why == "no pair of records with the configurations of the claim"
    assert [m.names for m in matches(every, "ddim", "ddpm")] == [("eds.representation.ddim[steps=50]", "eds.state_space.ddpm[steps=50]")]
    (told,) = matches(every, "ddim[compute=fast]", "ddim")
    assert told.names[0] == "eds.representation.ddim[compute=fast, steps=50]" and len(told.ours) == len(told.theirs) == 2


def as_fast(record: Record, quality: float) -> Record:
    cell = dataclasses.replace(record.cell, compute=Compute.FAST, shown={**record.cell.shown, "compute": "fast"})
    return dataclasses.replace(record, cell=cell, scores={**record.scores, "fd_digits": measured(quality, n=500)})


def planned(suite: Path, compute: Compute) -> Cell:
    """DDIM with 2 steps."""
    options = Options(only=("eds.representation.ddim",), compute=compute)
    return next(c for c in plan(load(str(suite)), discover(()), options).cells if c.params["steps"] == 2)


def test_ids_of_records_that_are_older_than_the_choices_stay(tmp_path: Path) -> None:
    paths = sorted((Path(__file__).parents[2] / "results/digits").glob("*/records/*.json"))
    for path in paths:
        older = json.loads(path.read_bytes())
        assert older["cell"].pop("compute") == "reference"
        assert older["cell"]["budget"].pop("training") == "reference"
        (tmp_path / path.name).write_text(json.dumps(older))
    assert paths and [read_record(tmp_path / path.name).cell.id for path in paths] == [path.stem for path in paths]
