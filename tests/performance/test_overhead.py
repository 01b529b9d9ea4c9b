"""What the harness adds to a bare sampling loop: meters on against off, and the loop's own share of a step."""

import torch

from bench.diffusion.loops import ddim, start
from bench.diffusion.noise import SeededDraws
from bench.diffusion.parametrise import EpsDenoiser
from bench.diffusion.schedules import linear_alpha_bar, sigma_of, sigmas_at, uniform_times
from bench.meters.calls import counted
from bench.meters.energy import energy_meter
from bench.meters.memory import peak_memory
from bench.nets.ema import seeded
from bench.nets.unet import unet_for
from tests.performance.ratios import compare

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BATCH = 256
SIGMAS = sigmas_at(uniform_times(20), sigma_of(linear_alpha_bar()))


def digits_denoiser() -> EpsDenoiser:
    """The network of the default suite, the smallest that we ship."""
    with seeded(0):
        return EpsDenoiser(unet_for(8, 1, 1, 10, 32)).to(DEVICE).eval()


@torch.no_grad()
def test_meters_on_against_off() -> None:
    model, seeds = digits_denoiser(), torch.arange(BATCH, device=DEVICE)

    def bare() -> None:
        draws = SeededDraws(seeds)
        ddim(model, start(draws, (1, 8, 8), SIGMAS[0]), SIGMAS, seeds % 10, draws)

    def metered() -> None:
        with energy_meter(DEVICE), peak_memory(DEVICE), counted(model):
            bare()

    ratio = compare("bare loop against all meters", metered, bare, DEVICE, "at least 0.98 on a CPU, 0.99 on a GPU")
    assert ratio > 0.5  # a broken meter would more than double the time


@torch.no_grad()
def test_share_of_the_loop_in_a_step() -> None:
    """The stochastic loop, with its noise, against the network's calls alone."""
    model, seeds = digits_denoiser(), torch.arange(BATCH, device=DEVICE)
    x = torch.zeros(BATCH, 1, 8, 8, device=DEVICE)
    t = torch.full((BATCH,), 500.0, device=DEVICE)

    def loop() -> None:
        draws = SeededDraws(seeds)
        ddim(model, start(draws, (1, 8, 8), SIGMAS[0]), SIGMAS, seeds % 10, draws, eta=1.0)

    def calls() -> None:
        for _ in range(20):
            model.net(x, t, seeds % 10)

    ratio = compare("network calls against the whole loop", loop, calls, DEVICE, "at least 0.95 on a CPU")
    assert ratio > 0.5
