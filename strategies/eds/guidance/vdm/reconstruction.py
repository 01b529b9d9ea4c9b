"""Sampling the rest of a clip of which the beginning is known, from a model of whole clips.

Ho et al. 2022 (arXiv 2204.03458, section 3.1). The known part x^a of x0 takes the place of its estimate, so that a chain that starts from
it, `begun`, and takes DDIM's steps or posterior ones keeps an exact sample of q(z^a | x^a) at every level: the replacement method. The
unknown part is still the estimate E[x^b | z], which does not know x^a. By Bayes's rule it lacks sigma^2 d log q(x^a | z) / dz^b, in the
coordinates z = x0 + sigma * n, and reconstruction guidance approximates q(x^a | z) by a normal about the model's own estimate of x^a with
variance sigma^2 / w. Then sigma cancels: the estimate moves by -(w / 2) d|x^a - x^a(z)|^2 / dz^b. (The paper's factor is w alpha / 2,
as its z is alpha times ours.)
"""

import torch
from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.denoisers.parametrise import Wrapped
from bench.diffusion.loops import start


class Reconstructing(Wrapped):
    """E[x0 | x, x^a], approximately, from a denoiser of x0 = (x^a, x^b), parted along the channels; `known` is x^a (B, A, H, W).

    One call of the denoiser, and where `weight` is positive the gradient of that same call. At weight 0 it is the replacement method.
    """

    def __init__(self, denoiser: Denoiser, known: Tensor, weight: float) -> None:
        super().__init__(denoiser)
        self.known, self.weight = known, weight

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        a = self.known.shape[1]
        if self.weight == 0:
            return torch.cat([self.known, self.denoiser(x, sigma, labels)[:, a:]], dim=1)
        with torch.enable_grad():
            rest = x[:, a:].detach().requires_grad_()
            guess = self.denoiser(torch.cat([x[:, :a], rest], dim=1), sigma, labels)
            error = (self.known - guess[:, :a]).square().sum()  # over the batch too: no image depends on another
            (gradient,) = torch.autograd.grad(error, rest)
        return torch.cat([self.known, guess[:, a:].detach() - self.weight / 2 * gradient], dim=1)


def begun(draws: Draws, shape: tuple[int, int, int], known: Tensor, sigma: Tensor) -> Tensor:
    """Noise (B, *shape) as a chain begins, its first channels a sample of q(z^a | x^a): x^a + sigma * n."""
    x, a = start(draws, shape, sigma), known.shape[1]
    return torch.cat([known + float(sigma / (1 + sigma**2) ** 0.5) * x[:, :a], x[:, a:]], dim=1)
