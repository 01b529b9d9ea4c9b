"""Scores of a cell's samples against the real images of its task, with every extractor of the suite."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from bench.data.datasets import DataSet
from bench.harness.assets.trained import CLIP_CLASSIFIER, FEATURE_CLASSIFIER, Assets
from bench.harness.cell.features import Extracted
from bench.harness.cell.reference import reference
from bench.measures import Measure, measured, missing
from bench.metrics import authenticity, faithfulness, fidelity
from bench.metrics.features import Extractor, ExtractorUnavailable, Features, clip_classifier, own_classifier
from bench.metrics.source import Weights, sources
from bench.nets.classifier import Classifier
from bench.nets.clip_classifier import ClipClassifier
from bench.suites.suite import OWN
from bench.tasks.scene import Scene, Target


@dataclass(frozen=True)
class Yardstick:
    """An extractor with the real images as it sees them, the distance of two disjoint halves of them, and the test images' features."""

    extractor: Extractor
    reference: fidelity.Reference
    halves: float
    held_out: Tensor


class Judge:
    """Scores samples; `weights` and `download` say where Inception may come from, `folder` keeps what was extracted."""

    def __init__(self, scene: Scene, assets: Assets, folder: Path, weights: Weights) -> None:
        self._scene, self._assets, self._device, self._folder = scene, assets, scene.device, folder
        self._weights = weights
        self._extractors: dict[str, Extractor | str] = {}
        self._yardsticks: dict[str, Yardstick] = {}
        self._wanted: dict[tuple[str, int], Tensor] = {}
        self._held_out_copied: dict[int, Measure] = {}

    def extract(self, samples: Tensor, first: int, extractors: tuple[str, ...], extracted: Extracted) -> None:
        """Keep the features of samples `first`.. (N, C, H, W) for whoever scores the cell; not of clips."""
        found = [self._extractor(name) for name in extractors] if samples.ndim == 4 else []
        for extractor in found:
            if not isinstance(extractor, str):
                extracted.keep(extractor, samples, first, self._device)

    def scores(self, samples: Tensor, extractors: tuple[str, ...], extracted: Extracted) -> dict[str, Measure]:
        """Every measure of every extractor, a value or the reason why its extractor is not to be had; and what the task asks beside."""
        index = torch.arange(len(samples))
        target, stills, labels = self._scene.target(index), self._scene.stills(samples), self._scene.labels(index)
        found: dict[str, Measure] = {}
        for name in extractors:
            yardstick = self._yardstick(name)
            if isinstance(yardstick, str):
                found.update(fidelity.unavailable(name, yardstick))
                continue
            features = extracted.of(yardstick.extractor, stills, self._device)
            found.update(self._of_features(features, yardstick))
            if name == OWN:
                found.update(self._copied(features, yardstick))
            if name == OWN and features.logits is not None and samples.ndim == 4:
                found["class_accuracy"] = fidelity.class_accuracy(features.logits, labels, yardstick.extractor.signature)
            if target is not None:
                found[f"feature_distance_{yardstick.extractor.name}"] = self._feature_distance(features, target, yardstick)
        if samples.ndim == 5:
            yardstick = self._of_clips
            features = yardstick.extractor(samples, self._device)
            found.update(self._of_features(features, yardstick))
            assert features.logits is not None
            found["class_accuracy"] = fidelity.class_accuracy(features.logits, labels, yardstick.extractor.signature)
        if target is not None:
            found.update(self._faithful(samples, target))
        return found

    def _of_features(self, features: Features, yardstick: Yardstick) -> dict[str, Measure]:
        name = yardstick.extractor.name
        found = fidelity.scores(features, yardstick.reference, name, yardstick.extractor.signature)
        real = self._scene.reference
        halves = (len(real.train_images) + len(real.test_images)) // 2
        return {**found, f"halves_{name}": measured(yardstick.halves, n=halves, method="disjoint halves of the real images")}

    def _copied(self, features: Features, yardstick: Yardstick) -> dict[str, Measure]:
        """The share of copies among the samples, and among as many held-out images, which are none."""
        if self._scene.no_copies is not None:
            return {key: missing(self._scene.no_copies) for key in ("copied", "held_out_copied")}
        training, n = yardstick.reference.pooled, len(features.pooled)
        origin = fidelity.origin_of(yardstick.reference, yardstick.extractor.signature)
        if n not in self._held_out_copied:  # the same for every strategy
            self._held_out_copied[n] = authenticity.copied(fidelity.at_most(yardstick.held_out, n), training, origin)
        return {"copied": authenticity.copied(features.pooled, training, origin), "held_out_copied": self._held_out_copied[n]}

    def _feature_distance(self, features: Features, target: Target, yardstick: Yardstick) -> Measure:
        key = (yardstick.extractor.name, len(target.originals))
        if key not in self._wanted:  # the same for every strategy
            self._wanted[key] = yardstick.extractor(self._scene.stills(target.images), self._device).pooled
        values = faithfulness.feature_distance(features.pooled, self._wanted[key], yardstick.reference.root.trace)
        method = f"distance to {target.name}, in that of two real images; {yardstick.extractor.signature}"
        return faithfulness.averaged(values, target.originals, method)

    def _faithful(self, samples: Tensor, target: Target) -> dict[str, Measure]:
        made, wanted = self._scene.compared(samples), self._scene.compared(target.images)
        formulas = {"psnr": faithfulness.psnr, "ssim": faithfulness.ssim}
        return {
            name: faithfulness.averaged(formula(made, wanted), target.originals, f"{name.upper()} against {target.name}")
            for name, formula in formulas.items()
        }

    def _yardstick(self, name: str) -> Yardstick | str:
        extractor = self._extractor(name)
        if isinstance(extractor, str):
            return extractor
        if name not in self._yardsticks:
            real = self._scene.reference
            stills = replace(real, train_images=self._scene.stills(real.train_images), test_images=self._scene.stills(real.test_images))
            self._yardsticks[name] = self._held_against(extractor, stills)
        return self._yardsticks[name]

    @cached_property
    def _of_clips(self) -> Yardstick:
        classifier = self._assets.get(CLIP_CLASSIFIER).module
        assert isinstance(classifier, ClipClassifier)
        return self._held_against(clip_classifier(self._scene.base.name, classifier), self._scene.reference)

    def _held_against(self, extractor: Extractor, real: DataSet) -> Yardstick:
        return Yardstick(extractor, *reference(extractor, real, self._folder, self._device))

    def _extractor(self, name: str) -> Extractor | str:
        """The extractor, loaded once, or why there is none."""
        if name not in self._extractors:
            try:
                self._extractors[name] = self._own() if name == OWN else sources()[name].load(self._device, self._weights)
            except ExtractorUnavailable as error:
                self._extractors[name] = str(error)
        return self._extractors[name]

    def _own(self) -> Extractor:
        classifier = self._assets.get(FEATURE_CLASSIFIER).module
        assert isinstance(classifier, Classifier)
        return own_classifier(self._scene.base.name, classifier)
