"""smalldiffusion's training and sampling on our network: one network and one data set for two recipes."""

import contextlib
import io
import math
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.training.noise_prediction import LABEL_DROPOUT

smalldiffusion = pytest.importorskip("smalldiffusion", reason="the rival is not installed: it comes with the extra 'perf'")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Theirs(nn.Module, smalldiffusion.ModelMixin):
    """Our denoiser's network as their models are called; inputs scaled as by their `Scaled`, labels dropped as by `CondEmbedderLabel`.

    `shape` is (C, H, W) of the model's images.
    """

    def __init__(self, denoiser: EpsDenoiser, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.denoiser, self.input_dims = denoiser, shape

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        """x = x0 + sigma n (B, C, H, W), sigma () or (B, 1, 1, 1), labels (B,) -> noise n (B, C, H, W)."""
        x_t, t, _ = self.denoiser.scaled(x, sigma.double().flatten().expand(len(x)))
        return self.denoiser.net(x_t, t, self.dropped(cond) if self.training else cond)

    def dropped(self, labels: Tensor) -> Tensor:
        drop = torch.rand(len(labels), device=labels.device) < LABEL_DROPOUT
        return labels.masked_fill(drop, self.denoiser.net.n_classes)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Grey images uint8 (N, 1, H, W) and labels (N,) as torchvision's data sets give them: one picture at a time, through a transform."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.labels, self.transform = images[:, 0].cpu(), labels.cpu(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def accelerator() -> object:
    from accelerate import Accelerator  # smalldiffusion brings it

    return Accelerator(cpu=DEVICE.type == "cpu")


def train(
    model: Theirs,
    pictures: Pictures,
    schedule: object,
    *,
    batch: int,
    images_seen: int,
    lr: float,
    each_step: Callable[[], None] = lambda: None,
) -> int:
    """Their loop, with the loader of their examples, until at least that many images were learnt from; returns how many.

    `each_step` is called before each update of the weights, as their examples do.
    """
    loader, seen = DataLoader(pictures, batch_size=batch, shuffle=True), 0
    epochs = math.ceil(images_seen / len(pictures))
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
        states = smalldiffusion.training_loop(loader, model, schedule, accelerator=accelerator(), epochs=epochs, lr=lr, conditional=True)
        for state in states:
            if seen >= images_seen:
                break
            each_step()
            seen += len(state.x0)
    return seen


def sample(model: Theirs, schedule: object, labels: Tensor, *, steps: int, gam: float) -> Tensor:
    """Their sampler's images (B, C, H, W) for labels (B,), one evaluation a step; noise from the global random state."""
    chain = smalldiffusion.samples(
        model, schedule.sample_sigmas(steps), gam=gam, batchsize=len(labels), cond=labels, accelerator=accelerator()
    )
    for x in chain:
        last = x
    return last
