"""Our use of torch-fidelity's formulas against torch-fidelity's own entry point, and against closed forms."""

import math

import pytest
import torch
from torch import Tensor
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor

from bench.data.datasets import DataSource, load
from bench.metrics.features import Features, Signature
from bench.metrics.fidelity import Reference, at_most, class_accuracy, kernel_left_out, metric_name, scores, split_halves, unavailable
from bench.metrics.frechet import Statistics, root_of
from tests.oracles import Rgb

SIGNATURE = Signature(network="plain", weights="w", resize="none", dtype="float32")


class Plain(FeatureExtractorBase):
    """48 fixed random features of small images, and 10 logits."""

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(64, 48, generator=generator)
        self.head = torch.randn(48, 10, generator=generator)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = (x[:, :1].float().flatten(1) / 255) @ self.weights
        named = {"features": features, "logits": features @ self.head}
        return tuple(named[n] for n in self.features_list)


register_feature_extractor("plain-test", Plain)


def reference_of(pooled: Tensor) -> Reference:
    return Reference(pooled=pooled, root=root_of(Statistics.of(pooled)), images_hash="hash")


def test_parity_with_torch_fidelity() -> None:
    """Same images, same extractor: Frechet distance within 1e-6 relative; kernel distance, score, precision and recall equal."""
    data = load("digits", DataSource())
    first, second = data.train_images[:600], data.train_images[600:1300].flip(3)
    theirs = calculate_metrics(
        input1=Rgb(first), input2=Rgb(second), feature_extractor="plain-test", fid=True, isc=True, kid=True, prc=True,
        kid_subset_size=300, cuda=False, verbose=False, cache=False, save_cpu_ram=True, batch_size=64,
    )  # fmt: skip
    net = Plain("plain-test", ["features", "logits"])
    features = Features(pooled=net(first)[0], logits=net(first)[1])
    ours = scores(features, reference_of(net(second)[0]), extractor="plain", signature=SIGNATURE)
    assert ours["fd_plain"].value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours["kid_plain"].value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours["cs_plain"].value == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert ours["precision_plain"].value == pytest.approx(theirs["precision"], rel=1e-9)
    assert ours["recall_plain"].value == pytest.approx(theirs["recall"], rel=1e-9)
    for measure in ours.values():
        assert measure.n == 600 and "plain:w" in (measure.method or "") and "reference hash" in (measure.method or "")
        assert measure.low is None or measure.low <= measure.value <= measure.high  # type: ignore[operator]
    with_intervals = {name for name, measure in ours.items() if measure.low is not None}
    assert with_intervals == {"fd_plain", "fd_infinity_plain", "cs_plain", "kid_plain", "precision_plain"}
    assert ours["fd_infinity_plain"].value < ours["fd_plain"].value  # type: ignore[operator]


def test_only_inception_may_be_called_fid() -> None:
    assert metric_name("fid", "inception") == "fid" and metric_name("inception_score", "inception") == "inception_score"
    assert metric_name("fid", "digits") == "fd_digits" and metric_name("inception_score", "digits") == "cs_digits"
    assert {m.reason for m in unavailable("inception", "weights not found").values()} == {"weights not found"}


def test_halves_are_disjoint_and_fixed() -> None:
    first, second = split_halves(101)
    assert len(first) == len(second) == 50 and not set(first.tolist()) & set(second.tolist())
    assert torch.equal(first, split_halves(101)[0])


def test_class_accuracy() -> None:
    logits = torch.eye(4)
    measure = class_accuracy(logits, torch.tensor([0, 1, 2, 0]), SIGNATURE)
    assert measure.value == 0.75 and measure.replicates == (2 / 3, 2 / 3, 2 / 3, 1.0)
    p, n, z = 0.75, 4, 1.959964  # Wilson 1927: the interval's ends solve |p - q| = z sqrt(q (1 - q) / n)
    for q in (measure.low, measure.high):
        assert q is not None and abs(p - q) == pytest.approx(z * math.sqrt(q * (1 - q) / n), rel=1e-6)


def test_large_sets_are_cut_for_precision_and_recall_alone() -> None:
    rows = torch.arange(100.0)[:, None]
    assert torch.equal(at_most(rows, 100), rows)
    cut = at_most(rows, 10)
    assert len(cut.unique()) == 10 and torch.equal(cut, at_most(rows, 10))


def test_kernel_replicates_are_the_statistic_without_a_block() -> None:
    """Against the double sum written out, up to the constant of the reference."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 3, generator=generator).double(), torch.randn(9, 3, generator=generator).double()

    def direct(kept: Tensor) -> float:
        among = [float((a @ b / 3 + 1) ** 3) for i, a in enumerate(kept) for j, b in enumerate(kept) if i != j]
        across = [float((a @ b / 3 + 1) ** 3) for a in kept for b in y]
        return sum(among) / len(among) - 2 * sum(across) / len(across)

    wanted = [direct(torch.cat([x[: 3 * k], x[3 * k + 3 :]])) for k in range(4)]
    assert kernel_left_out(x, y, blocks=4).tolist() == pytest.approx(wanted, rel=1e-12)


def test_a_network_without_classes_has_no_score() -> None:
    pooled = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    found = scores(Features(pooled=pooled, logits=None), reference_of(pooled.flip(0) + 1), "clip", SIGNATURE)
    assert found["cs_clip"].reason == "not applicable: the network names no classes" and found["fd_clip"].value is not None
