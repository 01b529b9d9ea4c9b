"""Guidance by the gradient of a classifier of noised images, in the coordinates x = x0 + sigma * n.

Dhariwal & Nichol 2021 (arXiv 2105.05233, section 4) write it for x_t = a x with a = 1 / sqrt(1 + sigma^2), where a gradient with respect
to x_t is 1 / a times g = d log p(y | x) / dx. The two forms are alternatives; together they would guide twice.
- Algorithm 2, noise shifted: eps - s sqrt(1 - abar) d log p / dx_t = eps - s sigma g, so that the estimate of x0 moves by s sigma^2 g.
- Algorithm 1, mean shifted: mu + s Sigma d log p / dx_t at the lower level, Sigma = a_low^2 variance: by s variance g a_low / a_high.
"""

import itertools

import torch
from torch import Tensor, nn

from bench.contract import Denoiser, Draws
from bench.diffusion.batch import column, everywhere
from bench.diffusion.denoisers.parametrise import Wrapped
from bench.diffusion.gaussian import posterior_mean
from bench.diffusion.solvers.reverse_variance import Reverse


def log_p_gradient(classifier: nn.Module, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
    """d log p(y | x) / dx (B, C, H, W) of a classifier (x, sigma (B,)) -> logits (B, K), also where gradients are switched off around it.

    The sum over the batch has each image's own gradient, as no image's logits depend on another image.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_p = classifier(x, sigma).log_softmax(1).gather(1, labels[:, None])
        (gradient,) = torch.autograd.grad(log_p.sum(), x)
    return gradient


class NoiseShifted(Wrapped):
    """Algorithm 2 as a denoiser: D(x) + scale sigma^2 d log p(y | x) / dx. At scale 0 it is D, and the classifier is not called.

    The labels of a call are those guided towards; `given` (B,) are those that the base is told, None for an unconditional one.
    """

    def __init__(self, denoiser: Denoiser, classifier: nn.Module, scale: float, given: Tensor | None) -> None:
        super().__init__(denoiser)
        self.classifier, self.scale, self.given = classifier, scale, given

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None, "guidance needs labels"
        guess = self.denoiser(x, sigma, self.given)
        if self.scale == 0:
            return guess
        strength = self.scale * column(sigma.square(), x)
        return guess + strength * log_p_gradient(self.classifier, x, sigma, labels)


def mean_shift(high: float, low: float) -> float:
    """a_low / a_high, by which scale * variance * d log p / dx moves the mean of the step from `high` to `low`."""
    return float(((1 + high**2) / (1 + low**2)) ** 0.5)


def mean_shifted(reverse: Reverse, classifier: nn.Module, scale: float, x: Tensor, sigmas: Tensor, labels: Tensor, draws: Draws) -> Tensor:
    """Algorithm 1: the ancestral chain over descending sigmas (S + 1,) that end in 0, its means shifted towards the labels (B,).

    At scale 0 it is the chain itself, and the classifier is not called.
    """
    for high, low in itertools.pairwise(sigmas.tolist()):
        x0, variance = reverse(x, high, low)
        mean = posterior_mean(x, x0, high, low)
        if scale > 0:
            mean = mean + scale * mean_shift(high, low) * variance * log_p_gradient(classifier, x, everywhere(high, x), labels)
        x = mean + variance**0.5 * draws.normal(*x.shape[1:]) if low > 0 else mean
    return x
