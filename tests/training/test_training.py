"""Training and assets: learning happens, is a function of the seed, is priced, and survives the disk."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.cards import AssetName
from bench.contract import UndeclaredAsset
from bench.data.datasets import DataSource, load
from bench.harness.assets.trained import FEATURE_CLASSIFIER, RECIPES, Assets, SeenImages, asset_id, closure
from bench.nets.classifier import Classifier, NoisyClassifier, accuracy, predictions
from bench.nets.ema import update_average
from bench.testing.subject import BUDGET, tiny_assets
from bench.training.recipes.feature_classifier import fit_feature_classifier
from bench.training.recipes.noisy_classifier import build_noisy_classifier, fit_noisy_classifier
from bench.training.train import drop_labels, rate, train
from tests.oracles import kit_of


def digits_kit(**budget: int):  # type: ignore[no-untyped-def]
    data = load("digits", DataSource())
    return kit_of(data.train_images, data.train_labels, **budget)


def test_rate_rises_and_falls_to_zero() -> None:
    rates = [rate(k, 200) for k in range(200)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1 and rates[-1] < 1e-3
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_labels_are_dropped_one_by_one() -> None:
    labels = torch.arange(10).repeat(2000)
    dropped = drop_labels(labels, 0.1, 10, torch.Generator().manual_seed(0)) == 10
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert 0 < int(dropped[:50].sum()) < 50


def test_average_follows_parameters() -> None:
    average, net = nn.Linear(2, 2), nn.Linear(2, 2)
    before, target = average.weight.detach().clone(), net.weight.detach().clone()
    update_average(average, net, 0.75)
    assert torch.allclose(average.weight, 0.75 * before + 0.25 * target)


def test_training_is_a_function_of_the_seed_and_learns() -> None:
    kit = digits_kit(train_images=6000)

    def run(seed: int) -> nn.Module:
        torch.manual_seed(seed)  # the global state must not matter
        seeded = dataclasses.replace(kit, seed=5)
        return fit_feature_classifier(RECIPES[FEATURE_CLASSIFIER].build(seeded), seeded, "test")

    first, second = run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    data = load("digits", DataSource())
    assert isinstance(first, Classifier)
    logits = predictions(first, data.test_images.float() / 127.5 - 1)
    assert accuracy(logits, data.test_labels) > 0.85


def test_noisy_classifier_knows_clean_images_and_not_pure_noise() -> None:
    kit = digits_kit(train_images=12_000)
    net = fit_noisy_classifier(build_noisy_classifier(kit), kit, "test")
    assert isinstance(net, NoisyClassifier)
    data = load("digits", DataSource())
    x = data.test_images.float() / 127.5 - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = {}
    for sigma in (0.05, 100.0):
        level = torch.full((len(x),), sigma, dtype=torch.float64)
        found[sigma] = accuracy(net(x + sigma * noise, level), data.test_labels)
    assert found[0.05] > 0.75 and found[100.0] < 0.3


def test_divergence_is_an_error() -> None:
    kit = digits_kit()
    net = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="diverged"):
        train(net, lambda *_: net.weight.sum() * float("nan"), kit, images_seen=64, what="test")


def test_images_are_counted_over_phases() -> None:
    seen = SeenImages(lambda *_: None)
    for what, done in (("a", 10), ("a", 30), ("b", 5), ("b", 20), ("a", 7)):
        seen(what, done, 100)
    assert seen.total == 30 + 20 + 7


@pytest.mark.parametrize("name", [*AssetName, FEATURE_CLASSIFIER])
def test_assets_survive_the_disk(name: str, tmp_path: Path) -> None:
    data = load("digits", DataSource())
    fresh = Assets(tmp_path, data, digits_kit())
    trained = fresh.get(name)
    loaded = Assets(tmp_path, data, digits_kit()).get(name)
    assert loaded.cost == trained.cost and trained.cost.images_seen.value == (BUDGET.train_images if name != "autoencoder" else 128)
    for key, value in trained.module.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[key]), key
    assert not loaded.module.training and not any(p.requires_grad for p in loaded.module.parameters())


def test_pickled_checkpoint_is_refused_and_trained_again(tmp_path: Path) -> None:
    data = load("digits", DataSource())
    Assets(tmp_path, data, digits_kit()).get(FEATURE_CLASSIFIER)
    path = next(tmp_path.glob("*/model.safetensors"))

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"x": Evil()}, path)
    again = Assets(tmp_path, data, digits_kit())
    again.get(FEATURE_CLASSIFIER)
    assert "unreadable checkpoint" in again.mended[FEATURE_CLASSIFIER]
    assert not (tmp_path / "owned").exists()


def test_asset_ids_follow_budget_and_needs() -> None:
    data = load("digits", DataSource())
    wider = dataclasses.replace(BUDGET, width=16)
    ids = {name: asset_id(name, data, BUDGET) for name in RECIPES}
    assert len(set(ids.values())) == len(ids)
    assert all(asset_id(name, data, wider) != ids[name] for name in RECIPES)
    more_samples = dataclasses.replace(BUDGET, n_samples=9)
    assert all(asset_id(name, data, more_samples) == ids[name] for name in RECIPES)


def test_cost_of_an_asset_includes_what_it_needs() -> None:
    assert closure((AssetName.LATENT_DENOISER,)) == ("autoencoder", "latent_denoiser")
    with pytest.raises(UndeclaredAsset, match="'denoiser'"):
        tiny_assets().kit_with(()).denoiser()
