"""The classifier of clean images: the data set's own feature space. It belongs to the metrics, and no strategy can ask for it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contract import Kit
from bench.nets.classifier import Classifier
from bench.nets.ema import seeded
from bench.training.recipe import CLASSIFIER_IMAGES, Recipe
from bench.training.train import train


def build_feature_classifier(kit: Kit) -> Classifier:
    with seeded(kit.seed + 1):
        return Classifier(kit.workload.shape[0], kit.workload.n_classes).to(kit.device)


def fit_feature_classifier(net: Classifier, kit: Kit, what: str) -> Classifier:
    """On clean images; its last hidden layer is the data set's own feature space for the metrics, and serves nothing else."""

    def loss(images: Tensor, labels: Tensor, _generator: torch.Generator) -> Tensor:
        return F.cross_entropy(net(images)[1], labels, label_smoothing=0.05)

    return train(net, loss, kit, images_seen=min(CLASSIFIER_IMAGES, kit.budget.train_images), what=what)


RECIPE = Recipe(build_feature_classifier, fit_feature_classifier)
