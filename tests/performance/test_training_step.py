"""Our training loop, on images that lie on the device, against smalldiffusion's with its loader: same network, batch, number of images.

Theirs keeps no average of the weights here and reads no loss, which their examples do on top; ours does all that it always does.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from bench.contract import Kit
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.schedules import alpha_bar_of
from bench.harness.assets.compiled import told_format, trained
from bench.nets.ema import seeded
from bench.training.noise_prediction import eps_loss, unweighted
from bench.training.recipes.denoiser import build_denoiser
from bench.training.train import train
from bench.values import Budget, Compute, Workload
from tests.performance import rival
from tests.performance.ratios import compare
from tests.performance.rival import DEVICE, Pictures, Theirs, smalldiffusion

ON_GPU = DEVICE.type == "cuda"
SIDE, WIDTH, BATCH, STEPS = (32, 64, 512, 40) if ON_GPU else (16, 32, 64, 4)  # Fashion-MNIST's for either kind of device, padding included
IMAGES, CLASSES = BATCH * STEPS, 10
SCHEDULE = smalldiffusion.ScheduleDDPM()


def random_kit() -> Kit:
    """A data set of random grey images, of as many as are trained on."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8).to(DEVICE)
    return Kit(
        workload=Workload(dataset="random", shape=(1, SIDE, SIDE), n_classes=CLASSES),
        budget=Budget(train_images=IMAGES, train_batch=BATCH, width=WIDTH),
        images=images,
        labels=torch.arange(IMAGES, device=DEVICE) % CLASSES,
        device=DEVICE,
        seed=0,
    )


def by_us(kit: Kit) -> Callable[[], object]:
    denoiser = build_denoiser(kit)
    loss = eps_loss(denoiser, unweighted)
    return lambda: train(denoiser, loss, kit, images_seen=IMAGES, what="denoiser")


def by_them(kit: Kit) -> Callable[[], object]:
    model = Theirs(build_denoiser(kit), kit.workload.shape)
    pictures = Pictures(kit.images, kit.labels, smalldiffusion.img_train_transform)

    def run() -> None:
        assert rival.train(model, pictures, SCHEDULE, batch=BATCH, images_seen=IMAGES, lr=1e-3) == IMAGES

    return run


def scrambled(denoiser: EpsDenoiser) -> EpsDenoiser:
    """With weights that make its output depend on all inputs: an untrained one says zero."""
    with seeded(1), torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(0, 0.1)
    return denoiser


@torch.no_grad()
def test_both_train_one_function() -> None:
    """x0 + sigma n by their schedule, and sqrt(abar) x0 + sqrt(1 - abar) n at the same time by ours, give one noise."""
    denoiser = scrambled(build_denoiser(random_kit())).eval()
    model, t = Theirs(denoiser, (1, SIDE, SIDE)).eval(), torch.tensor([0, 1, 250, 500, 999], device=DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(2)
    x0, noise = (torch.randn(len(t), 1, SIDE, SIDE, generator=generator, device=DEVICE) for _ in range(2))
    abar = alpha_bar_of(denoiser.sigmas[t]).float()[:, None, None, None]
    sigma = SCHEDULE.sigmas.to(DEVICE)[t][:, None, None, None]
    expected = denoiser.net(abar.sqrt() * x0 + (1 - abar).sqrt() * noise, t.float(), t % CLASSES)
    assert float(expected.std()) > 0.01
    assert torch.allclose(model(x0 + sigma * noise, sigma, t % CLASSES), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("compute", Compute)
def test_training_step_against_smalldiffusion(compute: Compute) -> None:
    """Once compiled, where it compiles."""
    kit = random_kit()
    how = "as written" if compute is Compute.REFERENCE else f"compiled, in {told_format(DEVICE)}"
    name = f"{how}, {IMAGES:,} images of {SIDE}x{SIDE}, width {WIDTH}, batch {BATCH}, {DEVICE}, against smalldiffusion"
    with trained(compute, DEVICE) as evaluated:
        ours = by_us(replace(kit, evaluated=evaluated))
        found = compare(f"training {name}", ours, by_them(kit), DEVICE, "4x on a GPU" if ON_GPU else "1.2x on a CPU", rounds=5)
    assert found.ratio > 0.5
