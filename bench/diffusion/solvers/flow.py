"""The likelihood of a model through its probability-flow ODE, for any `Denoiser`.

In the coordinates x = x0 + sigma n the flow is dx/dsigma = (x - D(x, sigma)) / sigma (Karras et al. 2022, arXiv 2206.00364, eq. 1 with
s = 1 and eq. 3). With l = log sigma and y = a x, a^2 = 1 / (1 + sigma^2), which keeps the state near unit variance, it becomes

    dy/dl = a^2 y - a D(y / a, sigma),    d log p(y)/dl = -(a^2 d - tr dD/dx)

(Song et al. 2021, arXiv 2011.13456, eq. 39 and appendix D.2). The model's density is that of the flow begun at the prior N(0, 1) of y at
the highest noise and stopped at the lowest: a normalised density, whose value at the data needs no term for the noise left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import RK45, solve_ivp
from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.batch import everywhere
from bench.diffusion.likelihood import HALF_BIN

TOLERANCE = 1e-5  # Song et al. 2021, appendix D.2

Field = Callable[[Tensor], Tensor]
"""A map of images (B, C, H, W) -> (B, C, H, W) in which no image depends on another."""

Trace = Callable[[Field, Tensor], tuple[Tensor, Tensor]]
"""(f, x) -> f(x) (B, C, H, W) and the trace (B,) of df/dx, or an unbiased estimate of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowLikelihood:
    """Negative log-likelihood `nats` (B,), float64, of images, and how it was had.

    `evaluations` counts the calls of the network, each of them followed by `probes` vector-Jacobian products.
    """

    nats: Tensor
    evaluations: int
    probes: int
    tolerance: float

    @property
    def estimator(self) -> str:
        return (
            f"probability-flow ODE, RK45 at rtol = atol = {self.tolerance:g}, {self.evaluations} evaluations, "
            f"Rademacher probes: {self.probes}, uniform dequantisation"
        )


def flow_likelihood(
    denoiser: Denoiser, x0: Tensor, labels: Tensor, draws: Draws, span: tuple[float, float], probes: int = 1, tolerance: float = TOLERANCE
) -> FlowLikelihood:
    """Upper bound in nats on -log P of images x0 (B, C, H, W) of 256 grey levels in [-1, 1], one draw of its expectation.

    One uniform draw dequantises each image, `probes` draws of signs estimate the divergence; `span` is (lowest, highest) sigma.
    Raises ArithmeticError where the denoiser is not finite, or the tolerance cannot be held.
    """
    x = dequantised(x0, draws)
    log_p, evaluations = log_density(denoiser, x, labels, rademacher(draws, x0, probes), span, tolerance)
    return FlowLikelihood(nats=discrete_nats(log_p, x0[0].numel()), evaluations=evaluations, probes=probes, tolerance=tolerance)


def dequantised(x0: Tensor, draws: Draws) -> Tensor:
    """x0 (B, C, H, W) plus uniform noise over the bin that `discretised_gaussian` integrates: x0 - 1/255 to x0 + 1/255."""
    return x0 + HALF_BIN * (2 * draws.uniform(*x0.shape[1:]).to(x0.dtype) - 1)


def discrete_nats(log_p: Tensor, dimensions: int) -> Tensor:
    """-log P (B,) of grey levels, bounded by the log-density (B,) at a uniform point of their bin.

    log P = log of the integral of p over the bin = log (w^d E p(x)) >= d log w + E log p(x), with w = 2/255 the spacing of the levels in
    [-1, 1] (Theis et al. 2016, arXiv 1511.01844, section 3.1). A density uniform over all 256 bins, 1 / (256 w), gives log 256 a pixel.
    """
    return -log_p - dimensions * math.log(2 * HALF_BIN)


def log_density(
    denoiser: Denoiser, x: Tensor, labels: Tensor, trace: Trace, span: tuple[float, float], tolerance: float = TOLERANCE
) -> tuple[Tensor, int]:
    """(log-density (B,) in nats, float64, of points x (B, C, H, W) at the lowest sigma of `span`; number of network evaluations).

    The state is float64, the network computes in the dtype of x. The steps are common to the batch and held to the tolerance by the image
    that errs most (`PerImageRK45`): an image's value depends on its batch through the steps alone, within the solver's error.
    """
    count, dimensions = x.shape[0], x[0].numel()
    low, high = span

    def slope(log_sigma: float, state: np.ndarray) -> np.ndarray:
        sigma, scale = math.exp(log_sigma), (1 + math.exp(2 * log_sigma)) ** -0.5
        y = torch.from_numpy(state[: x.numel()]).to(x.device).reshape(x.shape)
        level = everywhere(sigma, x)
        guess, divergence = trace(lambda point: denoiser(point, level, labels), (y / scale).to(x.dtype))
        velocity = flat(scale**2 * y - scale * guess.double(), scale**2 * dimensions - divergence.double())
        if not np.isfinite(velocity).all():  # scipy would look for a step for ever
            raise ArithmeticError(f"the denoiser or its divergence is not finite at sigma = {sigma:g}")
        return velocity

    start = flat(x.double() * (1 + low**2) ** -0.5, torch.zeros(count))
    levels = math.log(low), math.log(high)
    solution = solve_ivp(slope, levels, start, PerImageRK45, t_eval=levels[1:], rtol=tolerance, atol=tolerance, images=count)
    if not solution.success:
        raise ArithmeticError(f"the probability flow cannot be integrated to a tolerance of {tolerance:g}: {solution.message}")
    end = torch.from_numpy(solution.y[:, -1]).to(x.device)
    y, growth = end[: x.numel()].reshape(count, -1), end[x.numel() :]
    prior = -0.5 * (y.square() + math.log(2 * math.pi)).sum(1)
    return prior + growth - 0.5 * dimensions * math.log1p(low**2), int(solution.nfev)


class PerImageRK45(RK45):  # type: ignore[misc]
    """Dormand and Prince's pair whose error norm is the largest over the images of one image's root mean square of scaled errors.

    scipy's own norm is the mean over the whole state: in it, many easy images would excuse a hard one.
    """

    def __init__(self, *args: Any, images: int, **options: Any) -> None:
        self.images = images
        super().__init__(*args, **options)

    def _estimate_error_norm(self, K: np.ndarray, h: float, scale: np.ndarray) -> float:
        square = (self._estimate_error(K, h) / scale) ** 2
        pixels, growth = square[: -self.images].reshape(self.images, -1), square[-self.images :]
        return float(np.max((pixels.sum(1) + growth) / (pixels.shape[1] + 1))) ** 0.5


def flat(y: Tensor, growth: Tensor) -> np.ndarray:
    """The solver's state, float64 (B * C * H * W + B,): images and the growth of their log-densities."""
    return torch.cat([y.flatten(), growth.to(y)]).cpu().numpy()


def rademacher(draws: Draws, like: Tensor, probes: int) -> Trace:
    """Hutchinson's estimate, the mean of e^T (df/dx) e over `probes` vectors e of random signs, the same at every call.

    Signs have a smaller variance than normals (Hutchinson 1990, doi 10.1080/03610919008812866); diagonal Jacobians have none.
    """
    signs = [(2 * (draws.uniform(*like.shape[1:]) < 0.5) - 1).to(like.dtype) for _ in range(probes)]

    def trace(function: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        value, products = pulled_back(function, x, signs)
        return value, torch.stack([(e * product).flatten(1).double().sum(1) for e, product in zip(signs, products, strict=True)]).mean(0)

    return trace


def exact_trace(function: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """The trace by one vector-Jacobian product a dimension: for few dimensions."""
    basis = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device).reshape(-1, 1, *x.shape[1:])
    value, products = pulled_back(function, x, [e.expand_as(x) for e in basis])
    return value, torch.stack([(e * product).flatten(1).sum(1) for e, product in zip(basis, products, strict=True)]).sum(0)


def pulled_back(function: Field, x: Tensor, vectors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """(f(x), v^T df/dx for each v (B, C, H, W) of `vectors`), also where gradients are switched off around it."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        products = [torch.autograd.grad(value, x, v.to(value.dtype), retain_graph=True)[0] for v in vectors]
    return value.detach(), products
