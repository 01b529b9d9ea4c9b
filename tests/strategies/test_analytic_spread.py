"""The spread of x0 at each level: enough images, rising with noise, and what an optimal path makes of it."""

import dataclasses

import torch
from torch import Tensor

from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.diffusion.solvers.analytic import AnalysedChain, bounded_spread, path_costs
from bench.training.levels import spread_by_level
from tests.oracles import kit_of

TABLE = sigma_of(linear_alpha_bar())


def test_a_small_share_still_sees_enough_images_at_each_level() -> None:
    images = torch.randint(0, 256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    seen: list[int] = []
    kit = dataclasses.replace(
        kit_of(images, torch.zeros(64, dtype=torch.long), train_images=1000), progress=lambda _what, done, _total: seen.append(done)
    )
    spread_by_level(GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25)), kit, 0.001)
    assert seen[-1] == 10 * 1000


def test_spread_rises_with_noise_and_a_path_does_not_follow_wrong_levels() -> None:
    """Where the network overshoots G >= 1 and the estimate is 0, so that steps along such levels seem free: 8210 bits/dim on the digits.

    Two kinds of pixels, since of white Gaussian data all paths cost the same.
    """
    power = (TABLE**2 / (0.9 + TABLE**2) + TABLE**2 / (0.01 + TABLE**2)) / 2
    true = TABLE**2 * (1 - power)
    wrong = power.clone()
    wrong[600:700:3] = 1.01
    wrong[-1] = 1.0
    found = bounded_spread(TABLE, wrong)
    assert bool((found.diff() >= 0).all()) and bool((found[600:] > 0).all())
    assert torch.allclose(found[:400], true[:400], rtol=1e-9)
    costs = path_costs(TABLE, true)

    def cost(times: Tensor) -> float:
        return float(costs[times[:-1], times[1:]].sum())

    net = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25))
    found_path, best_path = (AnalysedChain(net, TABLE, v).paths[9, :10].long() for v in (found, true))
    even = torch.linspace(999, 0, 10).round().long()
    assert cost(best_path) <= cost(found_path) < cost(best_path) + 0.1 * (cost(even) - cost(best_path))
