"""The classifier of noised images, whose gradient guides."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.contract import Kit
from bench.nets.classifier import NoisyClassifier
from bench.nets.ema import seeded
from bench.training.recipe import CLASSIFIER_IMAGES, Recipe
from bench.training.train import noise_like, train


def build_noisy_classifier(kit: Kit) -> NoisyClassifier:
    with seeded(kit.seed):
        return NoisyClassifier(kit.workload.shape[0], kit.workload.n_classes).to(kit.device)


def fit_noisy_classifier(net: NoisyClassifier, kit: Kit, what: str, encode: Callable[[Tensor], Tensor] | None = None) -> NoisyClassifier:
    """On images, or `encode` of them, noised by the base schedule (Dhariwal & Nichol 2021, arXiv 2105.05233, section 4.1)."""

    def loss(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        x0 = images if encode is None else encode(images)
        t = torch.randint(len(net.sigmas), (len(x0),), generator=generator, device=x0.device)
        sigma = net.sigmas[t]
        x = x0 + sigma.float()[:, None, None, None] * noise_like(x0, generator)
        return F.cross_entropy(net(x, sigma), labels)

    return train(net, loss, kit, images_seen=min(CLASSIFIER_IMAGES, kit.budget.train_images), what=what)


RECIPE = Recipe(build_noisy_classifier, fit_noisy_classifier)
