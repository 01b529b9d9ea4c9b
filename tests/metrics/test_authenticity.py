"""The share of copies against a loop over numpy distances, sets whose share is known, and its way into scores and reports."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.cards import Degradation, Edit, FewShot, Generate, Restore, Task, Video, task_name
from bench.contract import Kit
from bench.data.datasets import DataSet, DataSource, load
from bench.harness.assets.trained import Assets
from bench.harness.cell.features import Extracted
from bench.harness.cell.scoring import Judge
from bench.measures import NOT_RECORDED, Measure, missing
from bench.metrics import authenticity
from bench.metrics.authenticity import copied, distances
from bench.metrics.source import Weights
from bench.records.store import Store
from bench.report.leaderboard.board import board
from bench.report.page.write import write
from bench.tasks.scenes import scene_of
from bench.values import Budget, Record, Workload
from tests.made_records import made_record, with_scores

CPU = torch.device("cpu")


def normal(count: int, d: int, seed: int) -> Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed)) + 3.0  # features are not centred


def by_loop(samples: Tensor, training: Tensor) -> list[bool]:
    """Not authentic, one sample after the other, with no pair of distances left out."""
    real, found = training.double().numpy(), []
    for sample in samples.double().numpy():
        away = np.sqrt(((real - sample) ** 2).sum(1))
        nearest = int(away.argmin())
        others = [float(np.sqrt(((x - real[nearest]) ** 2).sum())) for k, x in enumerate(real) if k != nearest]
        found.append(bool(away[nearest] < min(others)))
    return found


@pytest.mark.parametrize(("rows", "columns"), [(1024, 4096), (7, 13), (40, 1), (1, 97)])
def test_each_sample_against_a_loop(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authenticity, "ROWS", rows)
    monkeypatch.setattr(authenticity, "COLUMNS", columns)
    samples, training = normal(83, 5, 0), normal(97, 5, 1)
    wanted = by_loop(samples, training)
    assert 10 < sum(wanted) < 73
    to_nearest, to_other = distances(samples, training)
    assert (to_nearest < to_other).tolist() == wanted
    measure = copied(samples, training, "origin")
    assert measure.value == sum(wanted) / 83 and measure.n == 83 and (measure.method or "").endswith("among 83 and 97 images; origin")


def test_a_line_by_hand() -> None:
    """4 is 4 from 0, whose nearest other is 10 away; 10.4 is 0.4 from 10 and 12.5 is 1.5 from 11, 1 from 10; -10 is 10 from 0."""
    samples, training = torch.tensor([[4.0], [10.4], [12.5], [-10.0]]), torch.tensor([[0.0], [10.0], [11.0]])
    to_nearest, to_other = distances(samples, training)
    assert to_nearest.tolist() == pytest.approx([4.0, 0.4, 1.5, 10.0]) and to_other.tolist() == pytest.approx([10.0, 1.0, 1.0, 10.0])
    measure = copied(samples, training, "")
    assert measure.value == 0.5
    for q in (measure.low, measure.high):  # Wilson 1927: |p - q| = z sqrt(q (1 - q) / n)
        assert q is not None and abs(0.5 - q) == pytest.approx(1.959964 * math.sqrt(q * (1 - q) / 4), rel=1e-6)


def test_copies_are_found_and_far_samples_are_none() -> None:
    training = normal(60, 8, 0)
    assert copied(training[[5, 5, 41, 0, 59]], training, "").value == 1.0
    assert copied(training + 100, training, "").value == 0.0
    half = torch.cat([training[:10], training[:30] + 100])
    assert copied(half, training, "").value == 0.25


def test_share_without_copying_is_that_of_a_poisson_process() -> None:
    """On a line g's neighbours to both sides and r's one beyond are Exp(1) away: the nearer of g's, Exp(2), is nearer than r's in 2/3."""
    share = copied(normal(5000, 1, 0), normal(5000, 1, 1), "").value
    assert share == pytest.approx(2 / 3, abs=0.03)


def test_duplicates_count_once() -> None:
    """Bit for bit, or up to the rounding of features; images that are near each other are no duplicates."""
    samples, training = normal(50, 8, 0), normal(60, 8, 1)
    once = copied(samples, training, "").value
    assert once is not None and 0 < once < 1
    for rounding in (0.0, 1e-6):
        twice = torch.cat([training, training * (1 + rounding)])
        assert copied(training, twice, "").value == 1.0
        assert copied(samples, twice, "").value == once
    near = torch.cat([training, training + 1e-3])
    assert copied(training - 1e-2, near, "").value == 0.0


def test_order_does_not_matter() -> None:
    samples, training = normal(50, 8, 0), normal(60, 8, 1)
    order, other = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in (50, 60))
    mine, _ = distances(samples, training)
    assert torch.equal(distances(samples[order], training[other])[0], mine[order]) and not torch.equal(mine[order], mine)
    assert copied(samples[order], training[other], "") == copied(samples, training, "")


def test_what_cannot_be_measured_has_a_reason() -> None:
    training = normal(20, 3, 0)
    broken = training.clone()
    broken[7, 1] = torch.nan
    for samples, real in ((training, training[:1].repeat(5, 1)), (broken, training), (training, broken)):
        assert (copied(samples, real, "").reason or "").startswith("failed: ")


@pytest.mark.parametrize(
    ("task", "measured"),
    [
        (Generate(), True),
        (Edit(), True),
        (Restore(degradation=Degradation.SUPER_2), True),
        (Video(), False),
        (Video(frames=8, given=4), False),
        (FewShot(), False),
    ],
    ids=lambda value: task_name(value) if isinstance(value, Task) else str(value),
)
def test_only_where_training_saw_the_real_images(task: Task, measured: bool) -> None:
    scene = scene_of(task, load("digits", DataSource()), CPU, 16)
    assert (scene.no_copies is None) == measured
    assert measured or (scene.no_copies or "").startswith("not applicable: ")


def judge_of(task: Task, data: DataSet, folder: Path, samples: int) -> Judge:
    """With a classifier that has seen 128 images."""
    budget = Budget(train_images=128, train_batch=32, width=8)
    kit = Kit(
        workload=Workload(dataset="digits", shape=data.shape, n_classes=data.n_classes),
        budget=budget,
        images=data.train_images,
        labels=data.train_labels,
        device=CPU,
        seed=0,
        progress=lambda *_: None,
    )
    return Judge(scene_of(task, data, CPU, samples), Assets(folder, data, kit), folder, Weights())


def test_judge_scores_samples_and_held_out_images_alike(tmp_path: Path) -> None:
    data = load("digits", DataSource())
    judge, n, nothing = judge_of(Generate(), data, tmp_path, 360), len(data.test_images), Extracted(tmp_path / "none")
    copies, real = (judge.scores(images, ("own",), nothing) for images in (data.train_images[-n:], data.test_images))
    assert copies["copied"].value == 1.0
    assert real["copied"] == real["held_out_copied"] == copies["held_out_copied"] and real["copied"].n == n
    assert 0.05 < (real["copied"].value or 0) < 0.95 and "digits-classifier" in (real["copied"].method or "")
    assert judge.scores(data.test_images[:50], ("own",), nothing)["held_out_copied"].n == 50


def test_judge_says_why_a_task_has_no_copies(tmp_path: Path) -> None:
    data = load("digits", DataSource())
    found = judge_of(FewShot(), data, tmp_path, 64).scores(data.train_images[:64], ("own",), Extracted(tmp_path / "none"))
    assert found["copied"] == found["held_out_copied"] == missing("not applicable: training saw none of the real images of this task")


def test_report_shows_the_share_or_why_it_is_not_there(tmp_path: Path) -> None:
    """A record of a suite without the own classifier, one older than the measure, and one that has it."""
    one, two, three = (made_record("eds.representation.ddim", steps=steps, quality=steps) for steps in (1, 2, 3))
    shares = {"copied": Measure(value=0.625, n=8), "held_out_copied": Measure(value=0.375, n=8)}
    records = [
        with_scores(one, **one.scores, **shares),
        two,
        dataclasses.replace(three, cell=dataclasses.replace(three.cell, extractors=("inception",))),
    ]
    store = Store(tmp_path / "digits" / "cpu")
    for record in records:
        store.write(record)
    shown = board(list(store.records()))
    assert shown.values["copied"].iloc[0] == 0.625
    assert list(shown.text()["Copied"]) == ["0.625", NOT_RECORDED.reason, "not in this suite"]
    page = write("digits", [store], tmp_path / "out").html.read_text()
    assert "0.375" in page and ">Copied</th>" in page
    assert "not recorded. Training time" in write("digits", [_only(two, tmp_path)], tmp_path / "old").html.read_text().replace("\n", " ")


def _only(record: Record, folder: Path) -> Store:
    store = Store(folder / "alone" / "cpu")
    store.write(record)
    return store
