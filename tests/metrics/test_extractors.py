"""Feature extractors: their weights, their signatures, and what becomes of them where weights are missing."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_clip import CLIPVisual
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from bench.data.datasets import DataSource, load
from bench.harness.cell.reference import reference, reference_key
from bench.metrics.extractors.clip import CLIP_FILE, clip
from bench.metrics.extractors.dinov2 import DINOV2_FILES, dinov2
from bench.metrics.extractors.efficientnet_lite0 import EFFICIENTNET, efficientnet
from bench.metrics.extractors.inception import inception
from bench.metrics.features import ExtractorUnavailable, own_classifier, signed
from bench.metrics.frechet import Statistics, distance
from bench.metrics.source import Weights
from bench.nets.classifier import Classifier
from bench.nets.ema import seeded
from bench.values import UserError

CPU = torch.device("cpu")


def test_inception_without_weights(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ExtractorUnavailable, match="weights not found"):
        inception(CPU, Weights())
    with pytest.raises(UserError, match="not found"):
        inception(CPU, Weights(inception=tmp_path / "none.pth"))
    pickled = tmp_path / "bad.pth"
    pickled.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="unreadable Inception weights"):
        inception(CPU, Weights(inception=pickled))


def test_inception_path_end_to_end(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A file of the right format with random weights gives 2048 features and 1008 logits, whatever the batch."""
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("no download"))
    path = tmp_path / "weights.pth"
    torch.save(random_inception(), path)
    extractor = inception(CPU, Weights(inception=path))
    images = load("digits", DataSource()).train_images[:3]
    features = extractor(images, CPU)
    assert features.pooled.shape == (3, 2048) and features.logits.shape == (3, 1008)
    assert features.pooled.std() > 0 and "inception-v3-compat" in str(extractor.signature)


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
    assert extractor.name == EFFICIENTNET and extractor.signature.dtype == "float32"
    alone = extractor(images[:1], CPU)
    assert torch.allclose(alone.pooled[0], features.pooled[0], atol=1e-4)


HUB = """
import torch


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(3, 384)

    def forward(self, x):
        return self.dense(x.mean(dim=(2, 3)))


def dinov2_vits14(**_):
    net = Tower()
    net.load_state_dict(torch.load(torch.hub.get_dir() + "/checkpoints/dinov2_vits14_pretrain.pth", weights_only=True))
    return net
"""


def test_dinov2_from_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository and a checkpoint in the cache's own form; without either the reason names it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ExtractorUnavailable, match=r"weights not found: .*hubconf\.py"):
        dinov2(CPU, Weights())
    code, weights = (tmp_path / "hub" / name for name in DINOV2_FILES)
    code.parent.mkdir(parents=True)
    weights.parent.mkdir(parents=True)
    code.write_text(HUB)
    with seeded(0):
        torch.save(nn.Linear(3, 384).state_dict(prefix="dense."), weights)
    monkeypatch.setattr("torch.hub.urlopen", lambda *_a, **_k: pytest.fail("no network"))
    monkeypatch.setattr("torch.hub._parse_repo_info", lambda _repo: ("facebookresearch", "dinov2", "main"))
    extractor = dinov2(CPU, Weights())
    images = load("digits", DataSource()).train_images[:5]
    features = extractor(images, CPU)
    assert features.pooled.shape == (5, 384) and features.logits is None and features.pooled.std() > 0
    assert "dinov2-vit-s-14" in str(extractor.signature)


class Archive(nn.Module):
    """Weights under the names of a CLIP checkpoint, scripted as its archive is."""

    def __init__(self, tower: CLIPVisual) -> None:
        super().__init__()
        self.visual = Names(dict(tower.visual.state_dict()))
        self.text_projection = nn.Parameter(torch.zeros(4, 512))

    def forward(self) -> int:
        return 0


class Names(nn.Module):
    """Nested modules that hold parameters by dotted names, and do nothing."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            head, _, rest = name.partition(".")
            if rest:
                groups.setdefault(head, {})[rest] = value
            else:
                self.register_parameter(head, nn.Parameter(value))
        for head, inner in groups.items():
            self.add_module(head, Names(inner))

    def forward(self) -> int:
        return 0


def test_clip_from_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TorchScript archive with the names and a small tower's shapes; a damaged one is told in one line."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ExtractorUnavailable, match="weights not found"):
        clip(CPU, Weights())
    path = tmp_path / "hub" / "checkpoints" / CLIP_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not an archive")
    with pytest.raises(UserError, match="unreadable CLIP weights"):
        clip(CPU, Weights())
    with seeded(0):
        torch.jit.save(torch.jit.script(Archive(CLIPVisual(512, 64, 2, 64, 32))), path)
    extractor = clip(CPU, Weights())
    features = extractor(load("digits", DataSource()).train_images[:5], CPU)
    assert features.pooled.shape == (5, 512) and features.logits is None and bool(features.pooled.isfinite().all())
    assert "clip-vit-b-32" in str(extractor.signature) and "tf1-bilinear-64" in str(extractor.signature)


def small_classifier() -> Classifier:
    with seeded(0):
        return Classifier(1, 10)


def test_every_part_of_what_features_depend_on_changes_the_key() -> None:
    data, classifier = load("digits", DataSource()), small_classifier()
    base = own_classifier("digits", classifier).signature
    keys = {reference_key(base, data.hash)}
    images = data.test_images.clone()
    images[0, 0, 0, 0] += 1
    changed = small_classifier()
    with torch.no_grad():
        changed.head.bias[3] += 1e-6
    signatures = [
        own_classifier("digits", changed).signature,
        own_classifier("digits", small_classifier().double()).signature,
        dataclasses.replace(base, batch=base.batch + 1),
        dataclasses.replace(base, versions="torch 0"),
        signed("digits-classifier", classifier, "bilinear-32"),
        efficientnet(CPU, side=32).signature,
        efficientnet(CPU, side=64).signature,
    ]
    keys |= {reference_key(s, data.hash) for s in signatures} | {reference_key(base, pixel_changed(data.hash))}
    assert len(keys) == 2 + len(signatures)
    assert reference_key(own_classifier("digits", small_classifier()).signature, data.hash) in keys


def pixel_changed(before: str) -> str:
    """The hash of the digits with one pixel of one image changed."""
    from bench.data import datasets

    parts = list(datasets.digits(DataSource()))
    parts[0] = parts[0].copy()
    parts[0][17, 3, 3] ^= 1
    after = datasets._make("digits", tuple(parts)).hash  # type: ignore[arg-type]
    assert after != before
    return after


def test_reference_is_extracted_once_and_survives_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, extractor = load("digits", DataSource()), own_classifier("digits", small_classifier())
    first, halves, held_out = reference(extractor, data, tmp_path, CPU)
    calls: list[int] = []
    counting = dataclasses.replace(extractor, network=lambda images: calls.append(1) or extractor.network(images))  # type: ignore[func-returns-value]
    again, halves_again, held_out_again = reference(counting, data, tmp_path, CPU)
    assert not calls and halves == halves_again > 0 and torch.equal(first.pooled, again.pooled)
    assert torch.equal(held_out, held_out_again) and torch.equal(held_out, extractor(data.test_images, CPU).pooled)
    mine = Statistics.of(first.pooled[:700])
    assert distance(mine, first.root) == distance(mine, again.root)
    (file,) = tmp_path.glob("*/features.safetensors")
    shutil.copy(file, tmp_path / "whole")
    file.write_bytes((tmp_path / "whole").read_bytes()[:1000])
    made_anew, _, _ = reference(counting, data, tmp_path, CPU)
    assert calls and torch.equal(first.pooled, made_anew.pooled) and list(tmp_path.glob("*/*.unreadable-*"))
