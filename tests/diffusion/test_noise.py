"""Random numbers are a pure function of seed and draw index, and are normal and uniform."""

import pytest
import torch
from scipy import stats

from bench.diffusion.draws import SeededDraws


def test_image_does_not_depend_on_its_batch() -> None:
    seeds = torch.arange(40)
    whole = SeededDraws(seeds)
    first, second = whole.normal(1, 8, 8), whole.normal(3, 5)
    for k in (0, 17, 39):
        alone = SeededDraws(seeds[k : k + 1])
        assert torch.equal(alone.normal(1, 8, 8)[0], first[k])
        assert torch.equal(alone.normal(3, 5)[0], second[k])


def test_draws_differ_between_seeds_indices_and_positions() -> None:
    draws = SeededDraws(torch.tensor([0, 1, -1, 2**62]))
    both = torch.cat([draws.uniform(1000), draws.uniform(1000)], dim=1)
    assert both.unique().numel() > 0.999 * both.numel()


@pytest.mark.parametrize("first_seed", [0, 10**6])
def test_distributions(first_seed: int) -> None:
    """Kolmogorov and Smirnov over 400,000 numbers of consecutive seeds; p-values are themselves seeded, so this cannot flicker."""
    draws = SeededDraws(torch.arange(first_seed, first_seed + 1000))
    normal, uniform = draws.normal(400).flatten(), draws.uniform(400).flatten()
    assert stats.kstest(normal.double().numpy(), "norm").pvalue > 0.001
    assert stats.kstest(uniform.double().numpy(), "uniform").pvalue > 0.001
    assert uniform.min() >= 0 and uniform.max() < 1
    assert normal.abs().max() > 4.2  # tails exist: P(max of 4e5 below 4.2) is about 2e-5


def test_uncorrelated_across_seeds_and_draws() -> None:
    draws = SeededDraws(torch.arange(2000))
    a, b = draws.normal(64), draws.normal(64)
    for left, right in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
        r = float((left * right).mean())
        assert abs(r) < 4 / left.numel() ** 0.5


def test_odd_counts_and_scalars() -> None:
    draws = SeededDraws(torch.arange(3))
    assert draws.normal(5).shape == (3, 5) and draws.normal().shape == (3,)
