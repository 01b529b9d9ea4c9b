"""Our use of torch-fidelity's formulas against torch-fidelity's own entry point, and against closed forms."""

import pytest
import torch
from torch import Tensor
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor

from bench.data.datasets import DataSource, load
from bench.metrics.features import EFFICIENTNET, ExtractorUnavailable, Features, efficientnet, inception
from bench.metrics.fidelity import at_most, class_accuracy, frechet, metric_name, scores, split_halves, unavailable
from bench.nets.ema import seeded
from bench.values import UserError

CPU = torch.device("cpu")


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


class Rgb(torch.utils.data.Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images.expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> Tensor:
        return self.images[k]


def test_parity_with_torch_fidelity() -> None:
    """Same images, same extractor: Frechet distance within 1e-6 relative; kernel distance, score, precision and recall equal."""
    data = load("digits", DataSource())
    first, second = data.train_images[:600], data.train_images[600:1300].flip(3)
    theirs = calculate_metrics(
        input1=Rgb(first), input2=Rgb(second), feature_extractor="plain-test", fid=True, isc=True, kid=True, prc=True,
        kid_subset_size=300, cuda=False, verbose=False, cache=False, save_cpu_ram=True, batch_size=64,
    )  # fmt: skip
    net = Plain("plain-test", ["features", "logits"])
    features = [Features(pooled=net(x)[0], logits=net(x)[1]) for x in (first, second)]
    ours = scores(*features, extractor="plain", signature="test")
    assert ours["fd_plain"].value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours["kid_plain"].value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours["cs_plain"].value == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert ours["precision_plain"].value == pytest.approx(theirs["precision"], rel=1e-9)
    assert ours["recall_plain"].value == pytest.approx(theirs["recall"], rel=1e-9)
    assert all(m.n == 600 and m.method == "test" for m in ours.values())


def test_frechet_of_shifted_copies_is_the_squared_shift() -> None:
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.arange(6, dtype=torch.float64)
    assert frechet(x + shift, x) == pytest.approx(float(shift.square().sum()), rel=1e-9)
    doubled = torch.cov(x.T).trace() + x.mean(0).square().sum()  # tr(4S + S - 2 * 2S) + |m|^2
    assert frechet(2 * x, x) == pytest.approx(float(doubled), rel=1e-6)


def test_only_inception_may_be_called_fid() -> None:
    assert metric_name("fid", "inception") == "fid" and metric_name("inception_score", "inception") == "inception_score"
    assert metric_name("fid", "digits") == "fd_digits" and metric_name("inception_score", "digits") == "cs_digits"
    assert {m.reason for m in unavailable("inception", "weights not found").values()} == {"weights not found"}


def test_inception_without_weights(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ExtractorUnavailable, match="weights not found"):
        inception(CPU, None, download=False)
    with pytest.raises(UserError, match="not found"):
        inception(CPU, tmp_path / "none.pth", download=False)
    pickled = tmp_path / "bad.pth"
    pickled.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="unreadable Inception weights"):
        inception(CPU, pickled, download=False)


def test_inception_path_end_to_end(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A file of the right format with random weights gives 2048 features and 1008 logits, whatever the batch."""
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("no download"))
    path = tmp_path / "weights.pth"
    torch.save(random_inception(), path)
    extractor = inception(CPU, path, download=False)
    images = load("digits", DataSource()).train_images[:3]
    features = extractor(images, CPU)
    assert features.pooled.shape == (3, 2048) and features.logits.shape == (3, 1008)
    assert features.pooled.std() > 0 and "inception-v3-compat" in extractor.signature


def random_inception() -> dict[str, Tensor]:
    """A state dict of the network's own shapes; the class asks for a file, so its loader is asked for none."""
    original = FeatureExtractorInceptionV3.load_state_dict
    captured: dict[str, Tensor] = {}

    class Stop(Exception):
        pass

    def capture(self, *_args, **_kwargs):  # type: ignore[no-untyped-def]
        captured.update({k: v.clone() for k, v in self.state_dict().items()})
        raise Stop

    FeatureExtractorInceptionV3.load_state_dict = capture
    empty = "/dev/null"
    load_file, torch.load = torch.load, lambda *a, **k: {}
    try:
        with seeded(0):
            FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=empty)
    except Stop:
        pass
    finally:
        FeatureExtractorInceptionV3.load_state_dict, torch.load = original, load_file
    return captured


def test_efficientnet_ships_with_its_weights() -> None:
    images = load("digits", DataSource()).test_images[:20]
    extractor = efficientnet(CPU)
    features = extractor(images, CPU)
    assert features.pooled.shape == (20, 1280) and features.logits.shape == (20, 1000)
    assert extractor.name == EFFICIENTNET and "float32" in extractor.signature
    alone = extractor(images[:1], CPU)
    assert torch.allclose(alone.pooled[0], features.pooled[0], atol=1e-4)


def test_halves_are_disjoint_and_fixed() -> None:
    first, second = split_halves(101)
    assert len(first) == len(second) == 50 and not set(first.tolist()) & set(second.tolist())
    assert torch.equal(first, split_halves(101)[0])


def test_class_accuracy() -> None:
    logits = torch.eye(4)
    assert class_accuracy(logits, torch.tensor([0, 1, 2, 0]), "s").value == 0.75


def test_large_sets_are_cut_for_precision_and_recall_alone() -> None:
    rows = torch.arange(100.0)[:, None]
    assert torch.equal(at_most(rows, 100), rows)
    cut = at_most(rows, 10)
    assert len(cut.unique()) == 10 and torch.equal(cut, at_most(rows, 10))
