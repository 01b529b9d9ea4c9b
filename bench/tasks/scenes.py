"""The tasks: what strategies train on, what they are asked for, what their samples are held against."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import final

import torch
from torch import Tensor

from bench.cards import Edit, FewShot, Generate, Restore, Task, Video, task_name
from bench.contract import EditRequest, FewShotRequest, Request, RestoreRequest, VideoRequest
from bench.data.clips import clips
from bench.data.datasets import DataSet
from bench.data.guides import drawings
from bench.data.images import padded, to_model
from bench.data.operators import operator
from bench.diffusion.draws import SeededDraws
from bench.identity.reach import code_hash
from bench.identity.roots import defined
from bench.tasks.scene import Scene, Target
from bench.values import digest

OBSERVATION = 2**40  # added to image seeds: the noise of an observation is no draw that a strategy sees


@final
class Drawing(Scene):
    """`Generate`."""

    def request(self, index: Tensor, seed: int, labels: Tensor | None = None) -> Request:
        return self._plain(index, seed, labels)


@final
class Editing(Scene):
    """`Edit`: guides are drawings of held-out images."""

    def labels(self, index: Tensor) -> Tensor:
        return self.base.test_labels[self._original(index)]

    def request(self, index: Tensor, seed: int, labels: Tensor | None = None) -> Request:
        guides = drawings(self.base.test_images[self._original(index)]).to(self.device)
        return EditRequest(**self._fields(index, seed, labels), guides=guides)

    def target(self, index: Tensor) -> Target:
        originals = self._original(index)
        return Target(images=drawings(self.base.test_images[originals]), originals=originals, name="the guide")


@final
class Restoring(Scene):
    """`Restore`: observations of held-out images."""

    def __init__(self, data: DataSet, device: torch.device, samples: int, task: Restore) -> None:
        super().__init__(data, device, samples, task)
        channels, height, _ = padded(data.shape)
        self._operator = operator(task.degradation, channels, height).to(device)
        self._noise = task.noise

    def labels(self, index: Tensor) -> Tensor:
        return self.base.test_labels[self._original(index)]

    def request(self, index: Tensor, seed: int, labels: Tensor | None = None) -> Request:
        fields = self._fields(index, seed, labels)
        clean = self._operator(to_model(self.base.test_images[self._original(index)]).to(self.device))
        noise = SeededDraws(fields["seeds"] + OBSERVATION).normal(self._operator.rows)
        observed = clean + self._noise * noise
        return RestoreRequest(**fields, operator=self._operator, observed=observed, noise_std=self._noise)

    def target(self, index: Tensor) -> Target:
        originals = self._original(index)
        return Target(images=self.base.test_images[originals], originals=originals, name="the original")


@final
class Filming(Scene):
    """`Video`: clips of moving images."""

    def __init__(self, data: DataSet, device: torch.device, samples: int, task: Video) -> None:
        super().__init__(data, device, samples, task)
        self._frames, self._given = task.frames, task.given
        train, test = (clips(images, task.frames) for images in (data.train_images, data.test_images))
        self.training = self.reference = replace(data, train_images=train, test_images=test, hash=_hash_of(data, task))

    def labels(self, index: Tensor) -> Tensor:
        return self.base.test_labels[self._original(index)] if self._given else super().labels(index)

    def request(self, index: Tensor, seed: int, labels: Tensor | None = None) -> Request:
        given = self.training.test_images[self._original(index), : self._given].to(self.device)
        return VideoRequest(**self._fields(index, seed, labels), frames=self._frames, given=given)

    def target(self, index: Tensor) -> Target | None:
        if not self._given:
            return None
        originals = self._original(index)
        return Target(images=self.training.test_images[originals], originals=originals, name="the true continuation")

    def stills(self, samples: Tensor) -> Tensor:
        """Frame k mod F of clip k, of the frames that were not given."""
        shown = self.compared(samples)
        turns = torch.arange(len(shown), device=shown.device)
        return shown[turns, turns % shown.shape[1]]

    def compared(self, samples: Tensor) -> Tensor:
        return samples[:, self._given :]

    @property
    def no_copies(self) -> str:
        return "not applicable: training saw every frame of its clips, and the real images are one frame of each"


@final
class Showing(Scene):
    """`FewShot`: training without the last classes; support from their test images, reference from their training images."""

    def __init__(self, data: DataSet, device: torch.device, samples: int, task: FewShot) -> None:
        super().__init__(data, device, samples, task)
        self._held_out, self._shots, seen = task.held_out, task.shots, data.n_classes - task.held_out
        name = _hash_of(data, task)
        self.training = _part(data, data.train_labels < seen, data.test_labels < seen, f"{name}-seen")
        self.reference = _part(data, data.train_labels >= seen, data.test_labels >= seen, f"{name}-held-out")
        self._by_class = {k: data.test_images[data.test_labels == k] for k in range(seen, data.n_classes)}

    def labels(self, index: Tensor) -> Tensor:
        return self.base.n_classes - 1 - index % self._held_out

    @property
    def likelihood_of(self) -> tuple[Tensor, Tensor]:
        return self.reference.train_images, self.reference.train_labels

    def request(self, index: Tensor, seed: int, labels: Tensor | None = None) -> Request:
        fields = self._fields(index, seed, labels)
        chosen = zip(fields["labels"].tolist(), (index.cpu() // self._held_out).tolist())
        support = torch.stack([self._support(label, turn) for label, turn in chosen]).to(self.device)
        return FewShotRequest(**fields, support=support)

    def _support(self, label: int, turn: int) -> Tensor:
        """(shots, C, H, W): the `turn`-th set of a class, the next one beginning where this one ends."""
        same = self._by_class[label]
        return same[(turn * self._shots + torch.arange(self._shots)) % len(same)]


def scene_of(task: Task, data: DataSet, device: torch.device, samples: int) -> Scene:
    """The scene of `samples` samples."""
    match task:
        case Generate():
            return Drawing(data, device, samples, task)
        case Edit():
            return Editing(data, device, samples, task)
        case Restore():
            return Restoring(data, device, samples, task)
        case Video():
            return Filming(data, device, samples, task)
        case FewShot():
            return Showing(data, device, samples, task)


def sample_shape(task: Task, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Of one sample: (C, H, W), or (F, C, H, W) of a clip."""
    return (task.frames, *shape) if isinstance(task, Video) else shape


def unsupported(task: Task, data: DataSet) -> str | None:
    """Why a data set cannot serve a task, or None."""
    _, height, width = data.shape
    match task:
        case Edit() | Restore() | Video() if height != width or height % 4:
            return f"{task_name(task)} needs square images with sides divisible by 4, {data.name} has {height} x {width}"
        case FewShot() if data.n_classes < task.held_out + 2:
            return f"{task_name(task)} needs at least {task.held_out + 2} classes, {data.name} has {data.n_classes}"
    return None


def task_identity(task: Task) -> Sequence[object]:
    """What the numbers of a task depend on beside the data; nothing for `Generate`."""
    match task:
        case Generate():
            return ()
        case Edit():
            maker = defined("bench.data.guides", "drawings")
        case Restore():
            maker = defined("bench.data.operators", "operator")
        case Video():
            maker = defined("bench.data.clips", "clips")
        case FewShot():
            return (asdict(task),)
    return asdict(task), code_hash([maker])


def _hash_of(data: DataSet, task: Task) -> str:
    return digest([data.hash, *task_identity(task)])


def _part(data: DataSet, train: Tensor, test: Tensor, name: str) -> DataSet:
    """The images chosen by these masks; classes keep their numbers."""
    return replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        test_images=data.test_images[test],
        test_labels=data.test_labels[test],
        hash=name,
    )
