"""The test of a difference errs as rarely as it says, and finds what is there: simulated samplers, judged from made records."""

import dataclasses
import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.measures import Measure, measured
from bench.report.comparison.paired import Basis, difference, holm
from bench.report.comparison.verdicts import Comparison, Verdict, compare, compare_all
from bench.values import Record
from tests.made_records import made_record, of_key, with_scores

DDIM, DDPM = "eds.representation.ddim", "eds.state_space.ddpm"
BLOCKS, IMAGES, TRIALS, DIMENSIONS = 20, 400, 500, 6
AT_MOST = 37  # of 500 trials at 5 %: 25 expected, 99 % of such experiments stay below
Array = NDArray[np.float64]


def distances(images: Array) -> tuple[Array, Array]:
    """Of samples (T, n, d): Frechet distances (T,) from the standard normal, and without each block (T, BLOCKS).

    Against N(0, 1) the distance is |m|^2 + tr S + d - 2 tr S^1/2; written anew here, sharing no code with the harness.
    """

    def of(kept: Array) -> Array:
        mean = kept.mean(1)
        covariance = np.einsum("tni,tnj->tij", kept - mean[:, None], kept - mean[:, None]) / (kept.shape[1] - 1)
        values = np.clip(np.linalg.eigvalsh(covariance), 0, None)
        return (mean**2).sum(1) + (values + 1 - 2 * np.sqrt(values)).sum(1)

    size = images.shape[1] // BLOCKS
    without = [of(np.delete(images, np.s_[b * size : (b + 1) * size], axis=1)) for b in range(BLOCKS)]
    return of(images), np.stack(without, axis=1)


def samplers(rng: np.random.Generator, shared: float, first: tuple[float, float], second: tuple[float, float]) -> list[Array]:
    """Two samplers' images (T, n, d), shift + scale * noise, of whose noise variance this fraction is shared."""
    common = rng.standard_normal((TRIALS, IMAGES, DIMENSIONS))
    noise = [math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.standard_normal(common.shape) for _ in range(2)]
    return [shift + scale * own for own, (shift, scale) in zip(noise, (first, second))]


def trials(images: list[Array]) -> list[Comparison]:
    """The harness's judgement on fd_digits, a trial each."""
    (a, without_a), (b, without_b) = map(distances, images)
    found = []
    for t in range(TRIALS):
        ours = made_record(DDIM, steps=50, quality=a[t], replicates=tuple(without_a[t]))
        theirs = made_record(DDPM, steps=50, quality=b[t], replicates=tuple(without_b[t]))
        found.append(of_key(compare([ours], [theirs]), "fd_digits"))
    return found


def told_apart(found: Iterable[Comparison]) -> int:
    return sum(c.verdict in (Verdict.BETTER, Verdict.WORSE) for c in found)


def width(comparison: Comparison) -> float:
    assert comparison.found.low is not None and comparison.found.high is not None
    return comparison.found.high - comparison.found.low


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_identical_samplers_are_told_apart_in_five_percent(shared: float) -> None:
    same = (0.5, 0.8)
    found = trials(samplers(np.random.default_rng(1), shared, same, same))
    assert all(c.found.basis is Basis.PAIRED for c in found)
    assert 10 <= told_apart(found) <= AT_MOST  # the lower bound: intervals are no wider than they must be


def test_identical_samplers_of_the_reference_itself_are_told_apart_more_rarely() -> None:
    perfect = (0.0, 1.0)
    assert told_apart(trials(samplers(np.random.default_rng(2), 0.5, perfect, perfect))) <= AT_MOST


def test_a_known_gap_is_found_and_covered() -> None:
    found = trials(samplers(np.random.default_rng(3), 0.98, (0.5, 0.8), (0.52, 0.8)))
    assert sum(c.verdict is Verdict.BETTER for c in found) >= 0.95 * TRIALS
    gap = DIMENSIONS * (0.5**2 - 0.52**2)  # equal covariances: the distance differs by the means alone
    covered = sum(c.found.low <= gap <= c.found.high for c in found)  # type: ignore[operator]
    assert 0.92 * TRIALS <= covered <= 0.98 * TRIALS


def test_shared_noise_cancels() -> None:
    """Against the unpaired interval of the same records, which knows the two intervals alone."""
    images = samplers(np.random.default_rng(4), 0.98, (0.5, 0.8), (0.5, 0.8))
    paired = trials(images)
    (a, without_a), (b, without_b) = map(distances, images)
    ratios = []
    for t in range(TRIALS):
        pair = difference(*([interval_of(v[t], w[t])] for v, w in ((a, without_a), (b, without_b))), same_models=True)
        assert pair.basis is Basis.INDEPENDENT and pair.low is not None and pair.high is not None
        ratios.append(width(paired[t]) / (pair.high - pair.low))
    assert np.median(ratios) < 0.25


def interval_of(value: float, without: Array) -> Measure:
    """A measure with a jackknife interval, normal quantile, and no replicates."""
    reach = 1.96 * math.sqrt((BLOCKS - 1) * without.var())
    return Measure(value=value, low=value - reach, high=value + reach)


def means(rng: np.random.Generator, centre: float, error: float) -> tuple[float, tuple[float, ...]]:
    """A mean of BLOCKS block means with this standard error, and its jackknife replicates."""
    blocks = centre + error * math.sqrt(BLOCKS) * rng.standard_normal(BLOCKS)
    return float(blocks.mean()), tuple((blocks.sum() - blocks) / (BLOCKS - 1))


def over_seeds(rng: np.random.Generator, name: str, seeds: int, training: float, gap: float = 0.0) -> list[Record]:
    """Records whose quality varies with the training seed by this standard deviation, and with the images by one."""
    found = []
    for seed in range(seeds):
        value, without = means(rng, 100 + gap + training * rng.standard_normal(), 1.0)
        record = with_scores(made_record(name, steps=50, quality=0, seed=seed), fd_digits=Measure(value=value, replicates=without))
        found.append(record if training else untrained(record))
    return found


def untrained(record: Record) -> Record:
    assert record.train is not None
    return dataclasses.replace(record, train=dataclasses.replace(record.train, images_seen=measured(0)))


def test_the_training_seed_is_a_source_of_variance() -> None:
    """Two strategies that differ by their training seeds alone; the images' own error would tell most of them apart."""
    rng = np.random.default_rng(5)
    pairs = [(over_seeds(rng, DDIM, 3, 3.0), over_seeds(rng, DDPM, 3, 3.0)) for _ in range(TRIALS)]
    found = [of_key(compare(*pair), "fd_digits") for pair in pairs]
    assert 10 <= told_apart(found) <= AT_MOST
    fooled = [difference(*([r.scores["fd_digits"] for r in side] for side in pair), same_models=True).p for pair in pairs]
    assert sum(p is not None and p < 0.05 for p in fooled) > 0.3 * TRIALS


def test_seeds_of_the_same_models_are_more_images() -> None:
    """Nothing is trained by either side: two seeds halve the variance, and do not leave one degree of freedom."""
    rng = np.random.default_rng(6)
    null = [of_key(compare(over_seeds(rng, DDIM, 2, 0.0), over_seeds(rng, DDPM, 2, 0.0)), "fd_digits") for _ in range(TRIALS)]
    assert 10 <= told_apart(null) <= AT_MOST
    assert np.median([width(c) for c in null]) == pytest.approx(
        2 * 2.02 * math.sqrt(2 / 2), rel=0.05
    )  # t of 38 degrees, two variances of 1
    gap = [of_key(compare(over_seeds(rng, DDIM, 2, 0.0, gap=-4.0), over_seeds(rng, DDPM, 2, 0.0)), "fd_digits") for _ in range(100)]
    assert sum(c.verdict is Verdict.BETTER for c in gap) >= 95


def test_seeds_with_other_shared_networks_are_no_more_images_of_the_same_models() -> None:
    rng = np.random.default_rng(11)
    ours, theirs = over_seeds(rng, DDIM, 2, 0.0, gap=-4.0), over_seeds(rng, DDPM, 2, 0.0)
    assert of_key(compare(ours, theirs), "fd_digits").found.basis is Basis.PAIRED
    ours[1] = dataclasses.replace(ours[1], cell=dataclasses.replace(ours[1].cell, asset_ids={"denoiser": "another"}))
    assert of_key(compare(ours, theirs), "fd_digits").found.basis is Basis.SEEDS


def test_holm_is_the_closed_test() -> None:
    """Its definition by closure (Marcus, Peritz & Gabriel 1976): the largest Bonferroni p of all families that hold the hypothesis."""
    rng = np.random.default_rng(7)
    for count in (1, 2, 5, 7):
        p = [*rng.uniform(0, 0.2, count).tolist(), 0.01, 0.01]
        families = [f for size in range(1, len(p) + 1) for f in itertools.combinations(range(len(p)), size)]
        closed = [max(min(1.0, len(f) * min(p[k] for k in f)) for f in families if i in f) for i in range(len(p))]
        assert holm(p) == pytest.approx(closed)
    assert holm([]) == []


def test_many_true_nulls_are_all_kept_in_ninety_five_percent() -> None:
    """Eight quantities and two pairs tested together: any false difference among sixteen counts."""
    rng = np.random.default_rng(8)

    def record(name: str) -> Record:
        made = untrained(made_record(name, steps=50, quality=1.0))
        drawn = {f"fd_{k}": means(rng, 5.0, 1.0) for k in range(8)}
        return dataclasses.replace(made, scores={k: Measure(value=v, replicates=r) for k, (v, r) in drawn.items()})

    wrong = 0
    for _ in range(TRIALS):
        found = compare_all([([record(DDIM)], [record(DDPM)]) for _ in range(2)])
        assert sum(c.p_adjusted is not None for pair in found for c in pair) == 16
        wrong += any(told_apart(pair) for pair in found)
    assert wrong <= AT_MOST
