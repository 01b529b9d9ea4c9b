"""torch-fidelity's formulas on features extracted once: Frechet distance, Inception score, kernel distance, precision and recall.

`fid`, `kid`, `inception_score`, `precision` and `recall` without a suffix are those of the real Inception network only; on any other
extractor the same formulas appear under its name, as `fd_digits`.
"""

import contextlib
import io

import torch
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from bench.metrics.features import INCEPTION, Features
from bench.values import Measure, measured, missing

FORMULAS = ("fid", "inception_score", "kid", "precision", "recall")
RNG_SEED = 2020  # torch-fidelity's default
PRC_IMAGES = 10_000  # of either side: neighbours are sought among all pairs, whose number grows with the square
KID_SUBSET = 1000  # torch-fidelity's default, cut to half of the smaller set


def metric_name(formula: str, extractor: str) -> str:
    """`fid` on Inception, `fd_<extractor>` elsewhere; the score of another classifier is `cs_<extractor>`, never an Inception score."""
    if extractor == INCEPTION:
        return formula
    return {"fid": "fd", "inception_score": "cs"}.get(formula, formula) + f"_{extractor}"


def frechet(features: Tensor, reference: Tensor) -> float:
    """Frechet distance of two feature sets (N, d) and (M, d), statistics in float64."""
    statistics = [fid_features_to_statistics(f.double()) for f in (features, reference)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def scores(generated: Features, reference: Features, extractor: str, signature: str) -> dict[str, Measure]:
    """All five measures of generated against reference features, each with n and the extractor's signature."""
    n = len(generated.pooled)
    with contextlib.redirect_stderr(io.StringIO()):  # torch-fidelity draws a progress bar that cannot be switched off
        values = {
            "fid": frechet(generated.pooled, reference.pooled),
            "inception_score": isc_features_to_metric(generated.logits, splits=10, shuffle=True, rng_seed=RNG_SEED)[KEY_METRIC_ISC_MEAN],
            "kid": kid_features_to_metric(
                generated.pooled,
                reference.pooled,
                kid_subsets=100,
                kid_subset_size=min(KID_SUBSET, n // 2, len(reference.pooled) // 2),
                rng_seed=RNG_SEED,
                verbose=False,
            )[KEY_METRIC_KID_MEAN],
        }
        manifolds = (at_most(generated.pooled, PRC_IMAGES), at_most(reference.pooled, PRC_IMAGES))
        precision_recall = prc_features_to_metric(*manifolds, save_cpu_ram=False, verbose=False)
    values["precision"] = precision_recall[KEY_METRIC_PRECISION]
    values["recall"] = precision_recall[KEY_METRIC_RECALL]
    return {metric_name(k, extractor): measured(float(v), n=n, method=signature) for k, v in values.items()}


def at_most(features: Tensor, count: int) -> Tensor:
    """A fixed random choice of `count` rows where there are more."""
    if len(features) <= count:
        return features
    return features[torch.randperm(len(features), generator=torch.Generator().manual_seed(RNG_SEED))[:count]]


def unavailable(extractor: str, reason: str) -> dict[str, Measure]:
    """The five measures of an extractor that is not to be had, each with the reason."""
    return {metric_name(formula, extractor): missing(reason) for formula in FORMULAS}


def class_accuracy(logits: Tensor, labels: Tensor, signature: str) -> Measure:
    """Share of images that the classifier recognises as the class they were asked for."""
    hits = (logits.argmax(1) == labels.cpu()).double()
    return measured(float(hits.mean()), n=len(hits), method=signature)


def split_halves(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two disjoint halves of range(count), for the distance that real images have from themselves."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[: count // 2], order[count // 2 : 2 * (count // 2)]
