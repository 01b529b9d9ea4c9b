"""One feature pass, five measures: Frechet distance, Inception score, kernel distance, precision and recall, with their intervals.

The formulas of the score, the kernel distance, precision and recall are torch-fidelity's own functions; the Frechet distance equals its
function (`frechet`). `fid`, `kid`, `inception_score`, `precision` and `recall` without a suffix are those of the real Inception network
only; on any other extractor the same formulas appear under its name, as `fd_digits`.
"""

import contextlib
import io
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from bench.intervals import jackknifed, share, student
from bench.measures import Measure, measured, missing
from bench.metrics.extractors.inception import INCEPTION
from bench.metrics.features import Features, Signature
from bench.metrics.frechet import BLOCKS, Root, measures

FORMULAS = ("fid", "fid_infinity", "inception_score", "kid", "precision", "recall")
RNG_SEED = 2020  # torch-fidelity's default
MOST_PAIRS = 10_000  # images of either side where all pairs are formed, whose number grows with the square
KID_SUBSET = 1000  # torch-fidelity's default, cut to half of the smaller set
SPLITS = 10


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real images as scores need them: features (M, d), the root of their covariance, and the hash of the images."""

    pooled: Tensor
    root: Root
    images_hash: str


def metric_name(formula: str, extractor: str) -> str:
    """`fid` on Inception, `fd_<extractor>` elsewhere; the score of another classifier is `cs_<extractor>`, never an Inception score."""
    if extractor == INCEPTION:
        return formula
    return {"fid": "fd", "fid_infinity": "fd_infinity", "inception_score": "cs"}.get(formula, formula) + f"_{extractor}"


def scores(generated: Features, reference: Reference, extractor: str, signature: Signature) -> dict[str, Measure]:
    """All measures of generated against reference features; each method names formula, extractor, reference and versions."""
    origin = origin_of(reference, signature)
    fid, infinity = measures(generated.pooled, reference.root, f"Frechet distance; {origin}")
    with contextlib.redirect_stderr(io.StringIO()):  # torch-fidelity draws a progress bar that cannot be switched off
        precision, recall = _precision_recall(generated.pooled, reference.pooled, origin)
        found = {
            "fid": fid,
            "fid_infinity": infinity,
            "inception_score": _inception_score(generated.logits, origin),
            "kid": _kernel_distance(generated.pooled, reference.pooled, origin),
            "precision": precision,
            "recall": recall,
        }
    return {metric_name(formula, extractor): measure for formula, measure in found.items()}


def origin_of(reference: Reference, signature: Signature) -> str:
    """What a measure's method says of extractor, reference and versions."""
    return f"{signature}; reference {reference.images_hash}, {len(reference.pooled):,} images"


def _inception_score(logits: Tensor | None, origin: str) -> Measure:
    """Mean over ten splits of different images, whose spread gives the interval."""
    if logits is None:
        return missing("not applicable: the network names no classes")
    given = isc_features_to_metric(logits, splits=SPLITS, shuffle=True, rng_seed=RNG_SEED)
    value, reach = given[KEY_METRIC_ISC_MEAN], student(SPLITS - 1) * given[KEY_METRIC_ISC_STD] / (SPLITS - 1) ** 0.5
    return Measure(value=value, low=value - reach, high=value + reach, n=len(logits), method=f"class score, {SPLITS} splits; {origin}")


def _kernel_distance(generated: Tensor, reference: Tensor, origin: str) -> Measure:
    """torch-fidelity's mean over 100 subsets; replicates from the same kernel over all pairs, moved to that mean."""
    real, n = at_most(reference, MOST_PAIRS), len(generated)
    size = min(KID_SUBSET, n // 2, len(real) // 2)
    given = kid_features_to_metric(generated, real, kid_subsets=100, kid_subset_size=size, rng_seed=RNG_SEED, verbose=False)
    value = float(given[KEY_METRIC_KID_MEAN])
    method = f"kernel distance, 100 subsets of {size}; {origin}"
    if n < 2 * BLOCKS:
        return measured(value, n=n, method=method)
    without = kernel_left_out(at_most(generated, MOST_PAIRS), real)
    return jackknifed(value, (without - without.mean() + value).tolist(), n=n, method=method)


def kernel_left_out(generated: Tensor, reference: Tensor, blocks: int = BLOCKS) -> Tensor:
    """Unbiased squared MMD (Gretton et al. 2012, eq. 3) of k(x, y) = (x.y / d + 1)^3 without the k-th block of generated images.

    Returns (blocks,) float64, up to the reference's own term, which is the same for each.
    """
    x, y, d = generated.double(), reference.double(), generated.shape[1]
    among, across, own = x.new_zeros(blocks, blocks), x.new_zeros(blocks), x.new_zeros(blocks)
    parts = x.tensor_split(blocks)
    for i, part in enumerate(parts):
        rows = (part @ x.T / d + 1).pow(3)
        among[i] = torch.stack([columns.sum() for columns in rows.tensor_split(blocks, dim=1)])
        own[i] = (part.square().sum(1) / d + 1).pow(3).sum()
        across[i] = (part @ y.T / d + 1).pow(3).sum()
    n = len(x) - torch.tensor([len(p) for p in parts], dtype=torch.float64)
    pairs = among.sum() - 2 * among.sum(1) + among.diagonal() - (own.sum() - own)
    return pairs / (n * (n - 1)) - 2 * (across.sum() - across) / (n * len(y))


def _precision_recall(generated: Tensor, reference: Tensor, origin: str) -> tuple[Measure, Measure]:
    """Kynkaanniemi et al. 2019 (arXiv 1904.06991); the images being independent, precision is a proportion and has its interval."""
    mine, real = at_most(generated, MOST_PAIRS), at_most(reference, MOST_PAIRS)
    given = prc_features_to_metric(mine, real, save_cpu_ram=False, verbose=False)
    method = f"k = 3 nearest neighbours among {len(mine):,} and {len(real):,} images; {origin}"
    precision = share(round(given[KEY_METRIC_PRECISION] * len(mine)), len(mine), method)
    precision = replace(precision, value=float(given[KEY_METRIC_PRECISION]))  # theirs, a mean in float32
    return precision, measured(float(given[KEY_METRIC_RECALL]), n=len(mine), method=method)


def at_most(features: Tensor, count: int) -> Tensor:
    """A fixed random choice of `count` rows where there are more, in their order."""
    if len(features) <= count:
        return features
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(RNG_SEED))[:count].sort().values]


def unavailable(extractor: str, reason: str) -> dict[str, Measure]:
    """All measures of an extractor that is not to be had, each with the reason."""
    return {metric_name(formula, extractor): missing(reason) for formula in FORMULAS}


def class_accuracy(logits: Tensor, labels: Tensor, signature: Signature) -> Measure:
    """Share of images that the classifier recognises as the class they were asked for."""
    hits = (logits.argmax(1) == labels.cpu()).double()
    sums, sizes = zip(*((float(part.sum()), len(part)) for part in hits.tensor_split(min(BLOCKS, len(hits)))))
    without = [(sum(sums) - s) / (len(hits) - n) for s, n in zip(sums, sizes)] if len(hits) > 1 else None
    return share(int(hits.sum()), len(hits), f"argmax of the classifier; {signature}", without)


def split_halves(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two disjoint halves of range(count), for the distance that real images have from themselves."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // 2], order[count // 2 : 2 * (count // 2)]
