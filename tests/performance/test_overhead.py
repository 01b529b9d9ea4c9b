"""What the harness adds to a bare sampling loop: meters on against off, and the loop's own share of a step."""

import torch

from bench.diffusion.draws import SeededDraws
from bench.diffusion.loops import ddim, start
from bench.meters.calls import counted
from bench.meters.energy.meter import energy_meter
from bench.meters.memory import peak_memory
from tests.performance.digits import DEVICE, SHAPE, SIGMAS, STEPS, digits_denoiser
from tests.performance.ratios import compare

BATCH = 256


@torch.no_grad()
def test_meters_on_against_off() -> None:
    model, seeds = digits_denoiser(), torch.arange(BATCH, device=DEVICE)

    def bare() -> None:
        draws = SeededDraws(seeds)
        ddim(model, start(draws, SHAPE, SIGMAS[0]), SIGMAS, seeds % 10, draws)

    def metered() -> None:
        with energy_meter(DEVICE), peak_memory(DEVICE), counted(model):
            bare()

    found = compare("bare loop against all meters", metered, bare, DEVICE, "at least 0.98 on a CPU, 0.99 on a GPU")
    assert found.ratio > 0.5  # a broken meter would more than double the time


@torch.no_grad()
def test_share_of_the_loop_in_a_step() -> None:
    """The stochastic loop, with its noise, against the network's calls alone."""
    model, seeds = digits_denoiser(), torch.arange(BATCH, device=DEVICE)
    x = torch.zeros(BATCH, *SHAPE, device=DEVICE)
    t = torch.full((BATCH,), 500.0, device=DEVICE)

    def loop() -> None:
        draws = SeededDraws(seeds)
        ddim(model, start(draws, SHAPE, SIGMAS[0]), SIGMAS, seeds % 10, draws, eta=1.0)

    def calls() -> None:
        for _ in range(STEPS):
            model.net(x, t, seeds % 10)

    found = compare("network calls against the whole loop", loop, calls, DEVICE, "at least 0.95 on a CPU")
    assert found.ratio > 0.5
