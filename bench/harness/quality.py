"""Scores of a cell's images against the training images, with every extractor of the suite; references are extracted once."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.data.datasets import DataSet
from bench.harness.assets import FEATURE_CLASSIFIER, Assets, asset_id
from bench.harness.suite import OWN
from bench.metrics import fidelity
from bench.metrics.features import (
    EFFICIENTNET,
    INCEPTION,
    Extractor,
    ExtractorUnavailable,
    Features,
    efficientnet,
    inception,
    own_classifier,
)
from bench.nets.classifier import Classifier
from bench.values import Budget, Measure, measured


@dataclass(frozen=True)
class Reference:
    """An extractor with the features of all training images, and the distance of two disjoint halves of the real images."""

    extractor: Extractor
    features: Features
    halves: float


class Judge:
    """Scores images; `weights` and `download` say where Inception may come from."""

    def __init__(self, data: DataSet, budget: Budget, assets: Assets, device: torch.device, weights: Path | None, download: bool) -> None:
        self._data, self._budget, self._assets, self._device = data, budget, assets, device
        self._weights, self._download = weights, download
        self._references: dict[str, Reference | str] = {}

    def scores(self, images: Tensor, labels: Tensor, extractors: tuple[str, ...]) -> dict[str, Measure]:
        """Every measure of every extractor: a value, or the reason why its extractor is not to be had."""
        found: dict[str, Measure] = {}
        for name in extractors:
            reference = self._reference(name)
            if isinstance(reference, str):
                found.update(fidelity.unavailable(name, reference))
                continue
            extractor = reference.extractor
            features = extractor(images, self._device)
            found.update(fidelity.scores(features, reference.features, extractor.name, extractor.signature))
            found[f"halves_{extractor.name}"] = measured(
                reference.halves, n=self._real_count() // 2, method="disjoint halves of the real images"
            )
            if name == OWN:
                found["class_accuracy"] = fidelity.class_accuracy(features.logits, labels, extractor.signature)
        return found

    def _reference(self, name: str) -> Reference | str:
        if name not in self._references:
            try:
                extractor = self._extractor(name)
            except ExtractorUnavailable as error:
                self._references[name] = str(error)
            else:
                self._references[name] = self._extract(extractor)
        return self._references[name]

    def _extract(self, extractor: Extractor) -> Reference:
        train = extractor(self._data.train_images, self._device)
        test = extractor(self._data.test_images, self._device)
        real = torch.cat([train.pooled, test.pooled])
        first, second = fidelity.split_halves(len(real))
        return Reference(extractor, train, fidelity.frechet(real[first], real[second]))

    def _real_count(self) -> int:
        return len(self._data.train_images) + len(self._data.test_images)

    def _extractor(self, name: str) -> Extractor:
        if name == INCEPTION:
            return inception(self._device, self._weights, self._download)
        if name == EFFICIENTNET:
            return efficientnet(self._device)
        classifier = self._assets.get(FEATURE_CLASSIFIER).module
        assert isinstance(classifier, Classifier)
        return own_classifier(self._data.name, classifier, asset_id(FEATURE_CLASSIFIER, self._data, self._budget))
