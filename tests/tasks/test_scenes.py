"""Tasks: what a request shows, what it must not show, and that samples of the truth score as the truth."""

import dataclasses
import itertools

import pytest
import torch

from bench.cards import Degradation, Edit, FewShot, Generate, Restore, Task, Video, task_name
from bench.contract import EditRequest, FewShotRequest, RestoreRequest, VideoRequest
from bench.data.clips import clips
from bench.data.datasets import DataSet, DataSource, load
from bench.data.guides import drawings
from bench.data.images import to_model
from bench.harness.cell.grid import exhibit
from bench.tasks.scene import Scene
from bench.tasks.scenes import sample_shape, scene_of, task_identity, unsupported

CPU = torch.device("cpu")
TASKS: tuple[Task, ...] = (
    Generate(),
    Edit(),
    Restore(degradation=Degradation.SUPER_2, noise=0.05),
    Video(),
    Video(frames=8, given=4),
    FewShot(),
)
EVERY = pytest.mark.parametrize("task", TASKS, ids=task_name)


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load("digits", DataSource())


def of(task: Task, samples: int = 360) -> Scene:
    """As many samples as there are held-out images, if not told otherwise."""
    return scene_of(task, load("digits", DataSource()), CPU, samples)


@EVERY
def test_requests_depend_on_the_image_alone(task: Task) -> None:
    """Image k is asked for in the same way in any batch; another seed of the cell has other draws."""
    scene = of(task)
    together, alone = scene.request(torch.arange(6), 1), scene.request(torch.tensor([4]), 1)
    for field in dataclasses.fields(together):
        mine, other = getattr(together, field.name), getattr(alone, field.name)
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine[4:5], other), field.name
    assert torch.equal(together.draws().normal(3)[4:5], alone.draws().normal(3))
    assert not torch.equal(together.draws().normal(3), scene.request(torch.arange(6), 2).draws().normal(3))
    assert torch.equal(scene.labels(torch.arange(6)), together.labels)


@EVERY
def test_kit_tells_the_task_and_shows_no_held_out_image(task: Task, digits: DataSet) -> None:
    seen = of(task).training
    assert len(seen.train_images) == len(seen.train_labels)
    frames = seen.train_images[:, 0] if isinstance(task, Video) else seen.train_images
    test = {bytes(image.numpy().tobytes()) for image in digits.test_images}
    if not isinstance(task, Video):  # a shifted image is another
        assert not any(bytes(image.numpy().tobytes()) in test for image in frames)


def test_edit_shows_drawings_of_held_out_images(digits: DataSet) -> None:
    request, target = of(Edit()).request(torch.tensor([0, 359, 360]), 0), of(Edit()).target(torch.tensor([0, 359, 360]))
    assert isinstance(request, EditRequest) and target is not None
    assert torch.equal(request.guides, drawings(digits.test_images[[0, 359, 0]])) and torch.equal(request.guides, target.images)
    assert request.labels.tolist() == digits.test_labels[[0, 359, 0]].tolist() and target.originals.tolist() == [0, 359, 0]


@pytest.mark.parametrize("samples", [100, 1024])
def test_samples_of_one_original_stand_together_and_all_originals_are_used_alike(samples: int) -> None:
    target = of(Edit(), samples).target(torch.arange(samples))
    assert target is not None
    originals = target.originals
    assert bool((originals.diff() >= 0).all()) and int(originals[0]) == 0 and int(originals[-1]) >= 356
    counts = originals.bincount(minlength=360)
    assert int(counts.max()) <= -(-samples // 360)
    blocks = [set(block.tolist()) for block in originals.tensor_split(20)]
    assert all(len(first & second) <= 1 for first, second in itertools.pairwise(blocks))  # the one that a border cuts


def test_observation_is_degraded_and_its_noise_is_no_draw_of_the_strategy(digits: DataSet) -> None:
    request = of(Restore(degradation=Degradation.SUPER_2, noise=0.05)).request(torch.arange(300), 0)
    assert isinstance(request, RestoreRequest)
    noise = (request.observed - request.operator(to_model(digits.test_images[:300]))) / 0.05
    assert abs(float(noise.std()) - 1) < 0.03 and abs(float(noise.mean())) < 0.03
    drawn = request.draws().normal(request.operator.rows)
    assert abs(float((noise * drawn).mean())) < 0.05
    clean = of(Restore(degradation=Degradation.SUPER_2)).request(torch.arange(3), 0)
    assert isinstance(clean, RestoreRequest)
    assert torch.allclose(clean.observed, clean.operator(to_model(digits.test_images[:3])))


def test_video_gives_the_first_frames_of_held_out_clips(digits: DataSet) -> None:
    scene = of(Video(frames=8, given=4))
    request, truth = scene.request(torch.arange(5), 0), clips(digits.test_images, 8)[:5]
    assert isinstance(request, VideoRequest) and torch.equal(request.given, truth[:, :4])
    target = scene.target(torch.arange(5))
    assert target is not None and torch.equal(target.images, truth)
    assert torch.equal(scene.compared(truth), truth[:, 4:])
    assert torch.equal(scene.stills(truth), truth[torch.arange(5), 4 + torch.arange(5) % 4])
    free = of(Video()).request(torch.arange(5), 0)
    assert isinstance(free, VideoRequest) and free.given.shape == (5, 0, 1, 8, 8) and of(Video()).target(torch.arange(5)) is None


def test_few_shot_never_shows_a_held_out_class_in_training_nor_a_support_image_in_the_reference(digits: DataSet) -> None:
    scene = of(FewShot(held_out=3, shots=5))
    assert set(scene.training.train_labels.tolist()) == set(range(7))
    assert set(scene.reference.train_labels.tolist()) == {7, 8, 9}
    request = scene.request(torch.arange(30), 0)
    assert isinstance(request, FewShotRequest) and request.support.shape == (30, 5, 1, 8, 8)
    by_class = {k: {image.numpy().tobytes() for image in digits.test_images[digits.test_labels == k]} for k in (7, 8, 9)}
    for label, support in zip(request.labels.tolist(), request.support):
        assert all(image.numpy().tobytes() in by_class[label] for image in support)
    assert not torch.equal(request.support[0], request.support[3])  # the same class, another set
    images, labels = scene.likelihood_of
    assert torch.equal(images, digits.train_images[digits.train_labels >= 7]) and set(labels.tolist()) == {7, 8, 9}


def test_unsupported_tasks_say_why(digits: DataSet) -> None:
    wide = dataclasses.replace(digits, name="wide", train_images=digits.train_images[..., :6])
    few = dataclasses.replace(digits, name="few", n_classes=4)
    for task in TASKS:
        assert unsupported(task, digits) is None
    assert "square" in str(unsupported(Edit(), wide)) and unsupported(Generate(), wide) is None
    assert "at least 5 classes, few has 4" in str(unsupported(FewShot(), few))


def test_identity_tells_tasks_apart_and_leaves_generation_alone() -> None:
    identities = [str(task_identity(task)) for task in TASKS]
    assert task_identity(Generate()) == () and len(set(identities)) == len(TASKS)
    assert sample_shape(Video(), (1, 8, 8)) == (4, 1, 8, 8) and sample_shape(Edit(), (1, 8, 8)) == (1, 8, 8)


def test_grid_shows_targets_beside_samples() -> None:
    samples, targets = torch.full((40, 1, 2, 2), 1), torch.full((40, 1, 2, 2), 9)
    assert exhibit(samples, None).shape == (40, 1, 2, 2)
    shown = exhibit(samples, targets)
    assert shown.shape == (40, 1, 2, 2) and shown[:, 0, 0, 0].tolist() == 2 * (10 * [9] + 10 * [1])
    clip, truth = torch.full((12, 4, 1, 2, 2), 1), torch.full((12, 4, 1, 2, 2), 9)
    clip[:, 3] = 5  # the last frame stands in the last row
    assert exhibit(clip, None).flatten(1)[:, 0].tolist() == 30 * [1] + 10 * [5]
    assert exhibit(clip, truth).flatten(1)[:, 0].tolist() == 3 * 5 * [9, 1] + 5 * [9, 5]
