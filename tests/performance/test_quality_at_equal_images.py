"""Quality after the same number of images seen: our recipe against smalldiffusion's, on one network, by our Frechet distance.

Theirs is that of its Fashion-MNIST example: log-linear sigmas from 0.01 to 20, its training loop and loader, AdamW at 7e-4, an average of
decay 0.999 with the warm-up of the package that it averages with, 20 steps with momentum 1.6. Ours is the shared denoiser's with DDIM of 20
steps. Both see labels, start from the same weights, and are judged in the features of the data set's own classifier.
"""

import copy
import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torchvision.transforms import Compose

from bench.contract import Kit
from bench.data.datasets import DataSource, load
from bench.data.images import padded, to_model, to_uint8
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import leading
from bench.diffusion.loops import ddim, start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.intervals import jackknifed
from bench.measures import Measure
from bench.metrics.features import Extractor, own_classifier
from bench.metrics.frechet import Root, Statistics, measures, root_of
from bench.nets.ema import frozen, seeded, update_average
from bench.training.recipes.denoiser import build_denoiser, fit_denoiser
from bench.training.recipes.feature_classifier import build_feature_classifier, fit_feature_classifier
from bench.values import Budget, UserError, Workload
from tests.performance import rival
from tests.performance.rival import DEVICE, Pictures, Theirs, smalldiffusion

STEPS = 20
SIGMAS = leading(sigma_of(linear_alpha_bar()), STEPS)
SCHEDULE = smalldiffusion.ScheduleLogLinear(sigma_min=0.01, sigma_max=20, N=800)
TRANSFORM = smalldiffusion.img_train_transform


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`transform` is that of their example, without the mirror image where that is no image of the class."""

    dataset: str
    budget: Budget
    transform: Compose


TRIAL = {
    "cuda": Trial(
        dataset="fashion-mnist",
        budget=Budget(train_images=500_000, train_batch=512, width=64, n_samples=10_000, batch_size=500),
        transform=TRANSFORM,
    ),
    "cpu": Trial(
        dataset="digits",
        budget=Budget(train_images=20_000, train_batch=128, width=16, n_samples=1024, batch_size=256),
        transform=Compose(TRANSFORM.transforms[1:]),
    ),
}[DEVICE.type]


def trial_kit() -> Kit:
    try:
        data = load(TRIAL.dataset, DataSource())
    except UserError as error:
        pytest.skip(str(error))
    return Kit(
        workload=Workload(dataset=data.name, shape=data.shape, n_classes=data.n_classes),
        budget=TRIAL.budget,
        images=data.train_images.to(DEVICE),
        labels=data.train_labels.to(DEVICE),
        device=DEVICE,
        seed=0,
    )


def trained_by_them(denoiser: EpsDenoiser, kit: Kit) -> EpsDenoiser:
    """On the same padded images."""
    shape, budget = padded(kit.workload.shape), kit.budget
    model, average, updates = Theirs(denoiser, shape), copy.deepcopy(denoiser), itertools.count(1)
    pictures = Pictures(to_uint8(to_model(kit.images), shape), kit.labels, TRIAL.transform)

    def each_step() -> None:
        n = next(updates)
        update_average(average, denoiser, min(0.999, (1 + n) / (10 + n)))

    with seeded(0):
        seen = rival.train(
            model, pictures, SCHEDULE, batch=budget.train_batch, images_seen=budget.train_images, lr=7e-4, each_step=each_step
        )
    assert seen - budget.train_images in range(budget.train_batch)
    frozen(average)
    return average


def batches(kit: Kit) -> list[Tensor]:
    """Indices of all samples, batch by batch; the class is the index modulo the classes."""
    return list(torch.arange(kit.budget.n_samples, device=DEVICE).split(kit.budget.batch_size))


@torch.no_grad()
def sampled_by_us(denoiser: EpsDenoiser, kit: Kit) -> Tensor:
    images = []
    for index in batches(kit):
        draws = SeededDraws(index)
        x = ddim(denoiser, start(draws, padded(kit.workload.shape), SIGMAS[0]), SIGMAS, index % kit.workload.n_classes, draws)
        images.append(to_uint8(x, kit.workload.shape))
    return torch.cat(images)


def sampled_by_them(denoiser: EpsDenoiser, kit: Kit) -> Tensor:
    model, shape = Theirs(denoiser, padded(kit.workload.shape)), kit.workload.shape
    with seeded(0):
        parts = [rival.sample(model, SCHEDULE, index % kit.workload.n_classes, steps=STEPS, gam=1.6) for index in batches(kit)]
    return torch.cat([to_uint8(part, shape) for part in parts])


def distance(images: Tensor, extractor: Extractor, root: Root) -> Measure:
    return measures(extractor(images, DEVICE).pooled, root, "Frechet distance")[0]


def shown(measure: Measure) -> str:
    return f"{measure.value:.3g} [{measure.low:.3g}, {measure.high:.3g}]"


@pytest.mark.timeout(1800)
def test_quality_at_equal_images() -> None:
    kit = trial_kit()
    ours = build_denoiser(kit)
    theirs = trained_by_them(copy.deepcopy(ours), kit)
    ours = fit_denoiser(ours, kit, "denoiser")
    extractor = own_classifier(TRIAL.dataset, fit_feature_classifier(build_feature_classifier(kit), kit, "classifier"))
    root = root_of(Statistics.of(extractor(kit.images, DEVICE).pooled))
    found: dict[tuple[str, str], Measure] = {}
    print(
        f"\n{TRIAL.dataset}, {TRIAL.budget.train_images:,} images seen, {TRIAL.budget.n_samples:,} samples, {STEPS} evaluations, {DEVICE}"
    )
    for training, model in (("ours", ours), ("smalldiffusion", theirs)):
        for sampler, draw in (("ours", sampled_by_us), ("smalldiffusion", sampled_by_them)):
            found[training, sampler] = distance(draw(model, kit), extractor, root)
            print(f"trained by {training}, sampled by {sampler}: Frechet distance {shown(found[training, sampler])}")
    ratio = ratio_of(found["ours", "ours"], found["smalldiffusion", "smalldiffusion"])
    print(f"quality at equal images, our distance over smalldiffusion's: {shown(ratio)}; goal at most 1.0")
    assert all(math.isfinite(measure.value or math.nan) for measure in found.values())
    assert ratio.value is not None and ratio.value < 2


def ratio_of(a: Measure, b: Measure) -> Measure:
    """a / b with the interval of a jackknife that leaves out the same samples of both."""
    assert a.value is not None and b.value is not None and a.replicates is not None and b.replicates is not None and a.n is not None
    return jackknifed(a.value / b.value, [x / y for x, y in zip(a.replicates, b.replicates, strict=True)], n=a.n, method="ratio")
