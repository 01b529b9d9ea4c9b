"""Training of a network that draws more of what a few images show: each image with a support set of others of its class.

Giannone et al. 2022 (arXiv 2205.15463, section 3).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.contract import Kit
from bench.data.images import to_model
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.nets.unet import UNet
from bench.training.noise_prediction import eps_loss, unweighted
from bench.training.train import Loss, train


class FewShotModel(nn.Module):
    """A U-Net that is never told a label, and, where it is shown support, the encoder of it."""

    def __init__(self, net: UNet, encoder: nn.Module | None) -> None:
        super().__init__()
        self.net, self.encoder = net, encoder

    def shown(self, support: Tensor) -> EpsDenoiser:
        """The denoiser of images like model images `support` (B, n, C, H, W)."""
        said = None if self.encoder is None else self.encoder(support)
        return EpsDenoiser(Told(self.net, said)).to(support.device)


class Told(nn.Module):
    """The U-Net without labels, told one embedding (B, 4 width) for each image of the batch, or nothing."""

    def __init__(self, net: UNet, said: Tensor | None) -> None:
        super().__init__()
        self.net, self.said, self.null = net, said, net.null

    def forward(self, x: Tensor, t: Tensor, _labels: Tensor | None) -> Tensor:
        nobody = torch.full((len(x),), self.net.null, device=x.device)
        out: Tensor = self.net(x, t, nobody) if self.said is None else self.net(x, t, nobody, self.said)
        return out


def fit_few_shot(model: FewShotModel, kit: Kit, shots: int, what: str) -> FewShotModel:
    """Train both networks together, as long as the base denoiser."""
    numbered = replace(kit, labels=torch.arange(len(kit.images), device=kit.device))
    return train(model, few_shot_loss(model, kit, shots), numbered, images_seen=kit.budget.train_images, what=what)


def few_shot_loss(model: FewShotModel, kit: Kit, shots: int) -> Loss:
    """The squared error of the noise, each image going by its number in the place of its label."""
    classes = Classes(kit.labels)

    def loss(images: Tensor, numbers: Tensor, generator: torch.Generator) -> Tensor:
        chosen = classes.others(numbers, shots, generator)
        learner = model.shown(to_model(kit.images[chosen.flatten()]).unflatten(0, chosen.shape))
        return eps_loss(learner, unweighted)(images, numbers, generator)

    return loss


class Classes:
    """Images by class, to find others of the same."""

    def __init__(self, labels: Tensor) -> None:
        """labels (N,)."""
        size = labels.bincount()
        self._order = labels.argsort(stable=True)  # numbers of images, class after class
        self._first, self._size = (size.cumsum(0) - size)[labels], size[labels]  # of each image's class
        self._place = torch.empty_like(self._order).scatter_(0, self._order, torch.arange(len(labels), device=labels.device))

    def others(self, numbers: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """(B, count) numbers of random other images of the class of images `numbers` (B,); never the image itself, unless it is alone."""
        first, size, place = (table[numbers, None] for table in (self._first, self._size, self._place))
        share = torch.rand((len(numbers), count), generator=generator, device=numbers.device)
        away = 1 + (share * (size - 1)).long()
        return self._order[first + (place - first + away) % size]
