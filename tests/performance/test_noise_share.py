"""The time of the noise as a share of the stochastic loop of the smallest network that we ship."""

import pytest
import torch
from torch import Tensor

from bench.diffusion.draws import SeededDraws
from bench.diffusion.loops import ddim, start
from tests.performance.digits import DEVICE, SHAPE, SIGMAS, STEPS, digits_denoiser
from tests.performance.ratios import compare


class Tallied(SeededDraws):
    """Counts its draws."""

    count = 0

    def normal(self, *shape: int) -> Tensor:
        self.count += 1
        return super().normal(*shape)


@pytest.mark.parametrize("batch", [1, 16, 256])
@torch.no_grad()
def test_share_of_the_noise_in_a_step(batch: int) -> None:
    """A draw for each step: the first starts the chain, and the last step has none."""
    model, seeds = digits_denoiser(), torch.arange(batch, device=DEVICE)

    def loop(kind: type[SeededDraws] = SeededDraws) -> SeededDraws:
        draws = kind(seeds)
        ddim(model, start(draws, SHAPE, SIGMAS[0]), SIGMAS, seeds % 10, draws, eta=1.0)
        return draws

    def noise() -> None:
        draws = SeededDraws(seeds)
        for _ in range(STEPS):
            draws.normal(*SHAPE)

    tallied = loop(Tallied)
    assert isinstance(tallied, Tallied) and tallied.count == STEPS
    share = compare(
        f"share of the noise in the loop (ours the loop, other its noise), batch {batch}, {DEVICE}", loop, noise, DEVICE, "at most 0.05x"
    )
    assert share.ratio < 0.5
