"""The classifier of clips: the feature space of clip-level distances. It belongs to the metrics, and no strategy can ask for it."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contract import Kit
from bench.data.clips import DIRECTIONS, clips, directions
from bench.nets.clip_classifier import ClipClassifier
from bench.nets.ema import seeded
from bench.training.recipe import CLASSIFIER_IMAGES, Recipe
from bench.training.train import train

CLIP_FRAMES = 8  # the classifier of clips averages over time, so that it takes shorter clips too


def build_clip_classifier(kit: Kit) -> ClipClassifier:
    with seeded(kit.seed + 2):
        return ClipClassifier(kit.workload.shape[0], kit.workload.n_classes, len(DIRECTIONS)).to(kit.device)


def fit_clip_classifier(net: ClipClassifier, kit: Kit, what: str) -> ClipClassifier:
    """On clips of the kit's images: what moves, and which way it sets out. The feature space of clip-level distances, and nothing else."""
    count, n_classes = len(kit.images), kit.workload.n_classes
    pairs = kit.labels + n_classes * directions(count).to(kit.device)  # one number for both labels
    moving = replace(kit, images=clips(kit.images, CLIP_FRAMES), labels=pairs)

    def loss(images: Tensor, labels: Tensor, _generator: torch.Generator) -> Tensor:
        _, of_class, of_direction = net(images)
        return F.cross_entropy(of_class, labels % n_classes) + F.cross_entropy(of_direction, labels // n_classes)

    return train(net, loss, moving, images_seen=min(CLASSIFIER_IMAGES, kit.budget.train_images), what=what)


RECIPE = Recipe(build_clip_classifier, fit_clip_classifier)
