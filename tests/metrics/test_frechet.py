"""The Frechet distance: closed forms, torch-fidelity's function, shards, and the coverage of its intervals on Gaussian data."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from bench.metrics.frechet import BLOCKS, Root, Statistics, distance, left_out, measures, root_of

D, N, TRIALS = 32, 800, 400


def gaussian(d: int, seed: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    """Mean (d,) and a covariance (d, d) with eigenvalues over `spread` decades."""
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    covariance = turn @ torch.diag(torch.logspace(0, -spread, d, dtype=torch.float64)) @ turn.T
    return 0.1 * torch.randn(d, generator=generator, dtype=torch.float64), covariance


def exact_root(mean: Tensor, covariance: Tensor) -> Root:
    return Root(mean=mean, upper=torch.linalg.cholesky(covariance, upper=True), trace=float(covariance.trace()))


def closed_form(m1: Tensor, s1: Tensor, m2: Tensor, s2: Tensor) -> float:
    """By the eigenvalues of the product of the covariances."""
    cross = torch.linalg.eigvals(s1 @ s2).real.clamp_min(0).sqrt().sum()
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * cross)


@pytest.fixture(scope="module")
def world() -> tuple[Root, float, Tensor, Tensor]:
    """A reference, the true distance of a generator from it, and the generator's mean and Cholesky factor."""
    m_r, s_r = gaussian(D, 0)
    m_g, s_other = gaussian(D, 1)
    s_g = 0.9 * s_r + 0.2 * s_other
    return exact_root(m_r, s_r), closed_form(m_g, s_g, m_r, s_r), m_g, torch.linalg.cholesky(s_g)


def draw(world: tuple[Root, float, Tensor, Tensor], n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=generator, dtype=torch.float64) @ world[3].T + world[2]


def test_equals_torch_fidelity_and_the_closed_forms() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(500, 40, generator=generator), 1.5 * torch.rand(700, 40, generator=generator)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x.double()), fid_features_to_statistics(y.double()), verbose=False)
    assert distance(Statistics.of(x), root_of(Statistics.of(y))) == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-9)
    shift = torch.arange(40.0)
    assert distance(Statistics.of(y + shift), root_of(Statistics.of(y))) == pytest.approx(float(shift.square().sum()), rel=1e-6)
    covariance = torch.cov(y.double().T)  # of 2 y against y: tr(4 S + S - 2 * 2 S) + |m|^2
    doubled = covariance.trace() + y.double().mean(0).square().sum()
    assert distance(Statistics.of(2 * y), root_of(Statistics.of(y))) == pytest.approx(float(doubled), rel=1e-6)


def test_fewer_images_than_features() -> None:
    """A covariance of rank 49 in 200 dimensions, against torch-fidelity."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 200, generator=generator).double(), torch.randn(300, 200, generator=generator).double()
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), verbose=False)
    assert distance(Statistics.of(x), root_of(Statistics.of(y))) == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_shards_agree(offset: float) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(5000, 64, generator=generator) + offset
    root = root_of(Statistics.of(torch.randn(5000, 64, generator=generator) * 1.1 + offset))
    found = []
    for shards in (1, 8, 50):
        first, *rest = (Statistics.of(part) for part in x.tensor_split(shards))
        found.append(distance(sum(rest, first), root))
    assert found == pytest.approx([found[0]] * 3, abs=1e-10)


def test_left_out_is_the_distance_without_the_block(world: tuple[Root, float, Tensor, Tensor]) -> None:
    x = draw(world, 205, 0)
    parts = x.tensor_split(BLOCKS)
    wanted = [distance(Statistics.of(torch.cat([*parts[:k], *parts[k + 1 :]])), world[0]) for k in range(BLOCKS)]
    assert left_out(x, world[0]).tolist() == pytest.approx(wanted, rel=1e-9)


def test_left_out_of_fewer_images_than_features() -> None:
    """There the products of images stand in for the covariance."""
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(90, 200, generator=generator) + 1, torch.randn(300, 200, generator=generator)
    root = root_of(Statistics.of(y))
    parts = x.tensor_split(BLOCKS)
    wanted = [distance(Statistics.of(torch.cat([*parts[:k], *parts[k + 1 :]])), root) for k in range(BLOCKS)]
    assert left_out(x, root).tolist() == pytest.approx(wanted, rel=1e-7)


def test_the_limit_covers_the_truth(world: tuple[Root, float, Tensor, Tensor]) -> None:
    """The interval at infinity holds the true distance in 90 to 97 % of trials; the distance at n, being biased, in fewer than half."""
    held = held_by_n = 0
    limits = []
    for k in range(TRIALS):
        finite, infinite = measures(draw(world, N, 10 + k), world[0], "test")
        assert infinite.low is not None and infinite.high is not None and infinite.value is not None
        assert finite.low is not None and finite.high is not None
        held += infinite.low <= world[1] <= infinite.high
        held_by_n += finite.low <= world[1] <= finite.high
        limits.append(infinite.value)
    assert 0.90 <= held / TRIALS <= 0.97
    assert held_by_n / TRIALS <= 0.5
    error = torch.tensor(limits).std() / TRIALS**0.5
    assert abs(sum(limits) / TRIALS - world[1]) <= 3 * float(error) + 0.002 * world[1]


def test_a_bootstrap_would_never_cover_the_truth(world: tuple[Root, float, Tensor, Tensor]) -> None:
    """Drawing with replacement adds the bias again: its interval misses in every trial. So the metrics never do it."""
    held, few = 0, 500
    generator = torch.Generator().manual_seed(3)
    for k in range(20):
        x = draw(world, few, 1000 + k)
        picks = torch.randint(few, (100, few), generator=generator)
        values = sorted(distance(Statistics.of(x[pick]), world[0]) for pick in picks)
        held += values[2] <= world[1] <= values[97]
    assert held == 0
    for path in Path(__file__).parents[2].glob("bench/metrics/*.py"):
        text = path.read_text()
        assert not any(call in text for call in ("randint(", "multinomial(", "choice(")), path


def test_too_few_images_have_no_limit() -> None:
    x = torch.randn(100, 30, generator=torch.Generator().manual_seed(0))
    finite, infinite = measures(x, root_of(Statistics.of(x * 2)), "test")
    assert finite.low is not None and infinite.value is None and "fewer than 10 for each of 30" in (infinite.reason or "")
    finite, infinite = measures(x[:30], root_of(Statistics.of(x)), "test")
    assert finite.value is not None and finite.low is None and infinite.reason and math.isfinite(finite.value)
