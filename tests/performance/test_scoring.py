"""The cost of scores: our Frechet solve against others', all measures against one, our feature pass against torch-fidelity's."""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.registry import register_feature_extractor
from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

from bench.data.datasets import DataSource, load
from bench.metrics.extractors.efficientnet_lite0 import efficientnet
from bench.metrics.fidelity import Reference, scores
from bench.metrics.frechet import Statistics, distance, root_of
from tests.oracles import Rgb
from tests.performance.ratios import compare

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DIMENSIONS = 2048  # of Inception's features


def test_frechet_solve() -> None:
    """The reference's root is there, as for every cell after the first; the others start from means and covariances."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(DIMENSIONS, DIMENSIONS, generator=generator, dtype=torch.float64) / DIMENSIONS**0.5
    real, made = (torch.randn(3000, DIMENSIONS, generator=generator, dtype=torch.float64) @ mix for _ in range(2))
    ours, reference = Statistics.of(1.1 * made), Statistics.of(real)
    root = root_of(reference)
    theirs = [{"mu": s.mean.numpy(), "sigma": s.covariance.numpy()} for s in (ours, reference)]

    def by_square_root() -> float:
        difference, (a, b) = theirs[0]["mu"] - theirs[1]["mu"], (t["sigma"] for t in theirs)
        return float(difference @ difference + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real))

    value = distance(ours, root)
    by_eigenvalues = fid_statistics_to_metric(*theirs, verbose=False)[KEY_METRIC_FID]
    assert abs(value - by_eigenvalues) <= 1e-6 * value and abs(value - by_square_root()) <= 1e-6 * value
    cpu = torch.device("cpu")
    compare(
        "Frechet solve against torch-fidelity's eigenvalues", lambda: distance(ours, root),
        lambda: fid_statistics_to_metric(*theirs, verbose=False), cpu, "at least 3x", rounds=3,
    )  # fmt: skip
    compare("Frechet solve against scipy's sqrtm", lambda: distance(ours, root), by_square_root, cpu, "at least 5x", rounds=2)


def digits(count: int) -> Tensor:
    return load("digits", DataSource()).train_images[:count]


def test_five_measures_in_one_pass() -> None:
    extractor, images = efficientnet(DEVICE), digits(1024)
    real = extractor(digits(1437), DEVICE).pooled
    reference = Reference(pooled=real, root=root_of(Statistics.of(real)), images_hash="digits")

    def distance_alone() -> None:
        distance(Statistics.of(extractor(images, DEVICE).pooled), reference.root)

    def everything() -> None:
        scores(extractor(images, DEVICE), reference, extractor.name, extractor.signature)

    compare("all measures with their intervals against the distance alone", everything, distance_alone, DEVICE, "at least 0.8x", rounds=5)


class Ours(FeatureExtractorBase):
    """Our EfficientNet behind torch-fidelity's interface."""

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.extractor = efficientnet(DEVICE)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("pooled",)

    @staticmethod
    def get_default_feature_layer_for_metric(_metric: str) -> str:
        return "pooled"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.extractor.network(x)[0],)


def test_feature_pass() -> None:
    register_feature_extractor("ours-for-timing", Ours)
    images, options = (
        digits(1024),
        {"cuda": DEVICE.type == "cuda", "verbose": False, "cache": False, "save_cpu_ram": True, "batch_size": 64},
    )
    theirs = create_feature_extractor("ours-for-timing", ["pooled"], **options)
    extractor = efficientnet(DEVICE)

    def by_torch_fidelity() -> Tensor:
        return extract_featuresdict_from_input_id(1, theirs, input1=Rgb(images), **options)["pooled"]

    assert torch.allclose(extractor(images, DEVICE).pooled, by_torch_fidelity().cpu(), atol=1e-4)
    compare("feature pass against torch-fidelity's", lambda: extractor(images, DEVICE), by_torch_fidelity, DEVICE, "2x on a GPU", rounds=5)
