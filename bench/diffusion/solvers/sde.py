"""The variance-preserving SDE and the solvers of its reverse, for any `Denoiser`.

Song et al. 2021 (arXiv 2011.13456): dy = -beta(t) y / 2 dt + sqrt(beta(t)) dw for t in [0, 1] (eq. 11), beta(t) = 0.1 + 19.9 t
(appendix C). With B(t) the integral of beta, its marginal is y = a x, x = x0 + sigma n, a^2 = exp(-B) = 1 / (1 + sigma^2): the x of every
denoiser, brought to unit variance. Its thousand equal steps are the linear schedule of Ho et al. 2020 (appendix B). Backwards in time,

    dy = -beta (y / 2 + score) dt + sqrt(beta) dw   (eq. 6),    dy = -beta (y + score) / 2 dt   (the probability flow, eq. 13).

Times t are (B,) float64 unless said otherwise; states y are (B, C, H, W).
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.batch import column, everywhere
from bench.diffusion.solvers.runge_kutta import HEUN, step

BETA_MIN, BETA_MAX = 0.1, 20.0
END = 1e-3  # samplers stop here, as noise vanishes at 0 (appendix C)

Score = Callable[[Tensor, Tensor], Tensor]
"""(y, t) -> gradient of the log-density of y at time t, (B, C, H, W)."""

Predictor = Callable[[Score, Tensor, float, float, Draws], Tensor]
"""(score, y, high, low, draws) -> y at time low < high, both of the whole batch."""


def beta(t: Tensor) -> Tensor:
    """The rate of noising at any times."""
    return BETA_MIN + (BETA_MAX - BETA_MIN) * t


def integral(t: Tensor) -> Tensor:
    """B(t), the integral of beta from 0 to t."""
    return BETA_MIN * t + (BETA_MAX - BETA_MIN) / 2 * t.square()


def sigma_at(t: Tensor) -> Tensor:
    """The noise-to-signal ratio at any times: sqrt(exp(B) - 1)."""
    return torch.expm1(integral(t)).sqrt()


def time_at(sigma: Tensor) -> Tensor:
    """The times of noise-to-signal ratios: the positive root of B(t) = log(1 + sigma^2)."""
    rise, total = BETA_MAX - BETA_MIN, torch.log1p(sigma.square())
    return ((BETA_MIN**2 + 2 * rise * total).sqrt() - BETA_MIN) / rise


def equal_times(steps: int) -> Tensor:
    """(steps,) times from 1 to END at equal distances."""
    return torch.linspace(1, END, steps, dtype=torch.float64)


def equal_ratios(steps: int, span: tuple[float, float]) -> Tensor:
    """(steps,) times at which sigma falls by equal ratios over the span (lowest, highest)."""
    low, high = span
    return time_at(torch.linspace(math.log(high), math.log(low), steps, dtype=torch.float64).exp())


def sigma_span() -> tuple[float, float]:
    """(lowest, highest) sigma that a sampler passes: 0.0105 and 152."""
    low, high = sigma_at(torch.tensor([END, 1.0], dtype=torch.float64)).tolist()
    return low, high


def denoised(denoiser: Denoiser, y: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """E[x0 | y]: the last step of every sampler here, which takes away the noise left at END (appendix G)."""
    return denoiser(y * column((integral(t) / 2).exp(), y), sigma_at(t), labels)


def score_of(denoiser: Denoiser, labels: Tensor) -> Score:
    """The score (a E[x0 | y] - y) / (1 - a^2) (Efron 2011, doi 10.1198/jasa.2011.tm11181)."""

    def score(y: Tensor, t: Tensor) -> Tensor:
        a, variance = (-integral(t) / 2).exp(), -torch.expm1(-integral(t))
        return (column(a, y) * denoised(denoiser, y, t, labels) - y) / column(variance, y)

    return score


def increment(score: Score, y: Tensor, t: Tensor, h: Tensor, z: Tensor) -> Tensor:
    """What a step of Euler and Maruyama of length h (B,) back from t adds to y, with the unit noise z."""
    strength = beta(t) * h
    return column(strength, y) * (y / 2 + score(y, t)) + column(strength.sqrt(), y) * z


def euler_maruyama(score: Score, y: Tensor, high: float, low: float, draws: Draws) -> Tensor:
    """One step of Euler and Maruyama of the reverse SDE."""
    return y + increment(score, y, everywhere(high, y), everywhere(high - low, y), draws.normal(*y.shape[1:]))


def reverse_diffusion(score: Score, y: Tensor, high: float, low: float, draws: Draws) -> Tensor:
    """The reverse SDE discretised as the forward chain is (eq. 46): (2 - sqrt(1 - b)) y + b score + sqrt(b) z, b = 1 - kept."""
    above, below = everywhere(high, y), everywhere(low, y)
    b, left = 1 - kept(above, below), kept(above, below).sqrt()
    return column(2 - left, y) * y + column(b, y) * score(y, above) + column(b.sqrt(), y) * draws.normal(*y.shape[1:])


def ancestral(score: Score, y: Tensor, high: float, low: float, draws: Draws) -> Tensor:
    """The step of DDPM (eq. 4): (y + b score) / sqrt(1 - b) + sqrt(b) z, b = 1 - kept."""
    above, below = everywhere(high, y), everywhere(low, y)
    b, left = 1 - kept(above, below), kept(above, below).sqrt()
    return (y + column(b, y) * score(y, above)) / column(left, y) + column(b.sqrt(), y) * draws.normal(*y.shape[1:])


def probability_flow(score: Score, y: Tensor, high: float, low: float, _draws: Draws) -> Tensor:
    """One step of Heun of the probability flow in the variable log sigma, where it reads dy / dlog sigma = -(1 - a^2) (y + score).

    Second order, two evaluations; no noise.
    """

    def slope(state: Tensor, log_sigma: float) -> Tensor:
        t = everywhere(float(time_at(torch.tensor(log_sigma, dtype=torch.float64).exp())), state)
        return column(torch.expm1(-integral(t)), state) * (state + score(state, t))

    start, end = sigma_at(torch.tensor([high, low], dtype=torch.float64)).log().tolist()
    return step(slope, y, start, end, HEUN)


def kept(high: Tensor, low: Tensor) -> Tensor:
    """1 - b, the share of variance that the forward chain's step from `low` to `high` keeps: a(high)^2 / a(low)^2."""
    return (integral(low) - integral(high)).exp()


def langevin(score: Score, y: Tensor, t: Tensor, alpha: Tensor, snr: float, draws: Draws) -> Tensor:
    """One step of Langevin dynamics at time t: y + e score + sqrt(2 e) z, e = 2 alpha (snr |z| / |score|)^2 (algorithm 5).

    alpha (B,) is that of the chain's step; the norms are each image's own.
    """
    z, slope = draws.normal(*y.shape[1:]), score(y, t)
    size = 2 * alpha * (snr * z.flatten(1).norm(dim=1) / slope.flatten(1).norm(dim=1)).double().square()
    return y + column(size, y) * slope + column((2 * size).sqrt(), y) * z


def predict_correct(
    denoiser: Denoiser, y: Tensor, times: Tensor, labels: Tensor, draws: Draws, predictor: Predictor, corrections: int, snr: float
) -> Tensor:
    """From y (B, C, H, W) at times[0] down the descending times (S,), each step followed by `corrections` of Langevin; then x0."""
    score, grid = score_of(denoiser, labels), times.tolist()
    for high, low in itertools.pairwise(grid):
        y = predictor(score, y, high, low, draws)
        above, below = everywhere(high, y), everywhere(low, y)
        for _ in range(corrections):
            y = langevin(score, y, below, kept(above, below), snr, draws)
    return denoised(denoiser, y, everywhere(grid[-1], y), labels)
