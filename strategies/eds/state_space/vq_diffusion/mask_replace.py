"""Mask-and-replace diffusion of tokens, as pure functions of log-probabilities: K codes and the mask, which is state K and the last.

Gu et al. 2022 (arXiv 2111.14822, eqs. 7, 8 and 11). In one step a code stays, becomes any of the K codes with b_t each, or becomes the mask
with g_t, where it stays for good. So a code that is not masked undergoes multinomial diffusion with retention a_t / (1 - g_t), whether
masked later or not, and `categorical` serves for that part.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.diffusion.categorical import divergence, log_blend, log_onehot
from bench.diffusion.categorical import log_posterior as log_code_posterior

NEVER = 1e-30  # the probability of what cannot be; its logarithm is the floor of -70 in the official code
KEPT = (0.99999, 0.000009)  # abar at the first and at the last step of the official code
MASKED = (0.000009, 0.99999)  # gbar likewise


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """A noise level, or several: `keep` = abar / (1 - gbar), the retention of a code that is not masked, and `masked` = gbar.

    Both are float64 and broadcast with the tokens (...,) that they are used with.
    """

    keep: Tensor
    masked: Tensor


def linear_levels(steps: int, kept: tuple[float, float] = KEPT, masked: tuple[float, float] = MASKED) -> Level:
    """Levels (T + 1,): no noise at 0, then abar and gbar linear in t from the first to the last of `kept` and `masked`."""
    abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.linspace(*kept, steps, dtype=torch.float64)])
    gbar = torch.cat([torch.zeros(1, dtype=torch.float64), torch.linspace(*masked, steps, dtype=torch.float64)])
    return Level(keep=abar / (1 - gbar), masked=gbar)


def log_marginal(log_x0: Tensor, level: Level) -> Tensor:
    """log q(x_t) (..., K + 1) for log-probabilities log_x0 (..., K) of the codes at level 0 (eq. 8)."""
    return _with_mask(log_blend(log_x0, level.keep) + torch.log1p(-level.masked)[..., None], level.masked)


def log_prior(level: Level, codes: int) -> Tensor:
    """log p(x_T) (..., K + 1), from which the reverse chain starts: the mask with gbar_T, else each code alike."""
    return log_marginal(level.keep.new_zeros(codes).log_softmax(-1), level)


def log_posterior(log_x0: Tensor, x: Tensor, high: Level, low: Level) -> Tensor:
    """log p(x_low | x_high) (..., K + 1), the mean of q(x_low | x_high, x_0) over x_0 ~ log_x0 (..., K), for tokens x (...,) (eq. 11).

    A mask was there already with probability gbar_low / gbar_high, and says nothing of x_0; a code was a code. Steps may be skipped: `low`
    is any level below `high`.
    """
    seen = log_onehot(x.clamp(max=log_x0.shape[-1] - 1), log_x0.shape[-1])
    weighed = (log_x0 - log_blend(seen, high.keep)).log_softmax(-1)  # p(x_0) / q(x_high | x_0), normalised
    from_code = log_code_posterior(weighed, seen, high.keep / low.keep, low.keep)
    stayed = low.masked / high.masked
    from_mask = log_blend(log_x0, low.keep) + torch.log1p(-stayed)[..., None]
    hidden = x == log_x0.shape[-1]
    return _with_mask(torch.where(hidden[..., None], from_mask, from_code), torch.where(hidden, stayed, 0.0))


def step_divergence(log_x0: Tensor, x0: Tensor, x: Tensor, high: Level, low: Level) -> Tensor:
    """KL(q(x_low | x_high, x_0) || p(x_low | x_high)) (...,) in nats a token; down to level 0 it is -log p(x_0 | x_high)."""
    exact = log_posterior(log_onehot(x0, log_x0.shape[-1]), x, high, low)
    return divergence(exact, log_posterior(log_x0, x, high, low))


def prior_divergence(x0: Tensor, level: Level, codes: int) -> Tensor:
    """KL(q(x_T | x_0) || p(x_T)) (...,) in nats a token: with the terms of all steps, the bound of -log p(x_0)."""
    return divergence(log_marginal(log_onehot(x0, codes), level), log_prior(level, codes))


def truncated(log_p: Tensor, mass: float) -> Tensor:
    """log_p (..., K) of the likeliest codes alone, the fewest that hold `mass`, normalised; at mass 1 as it came.

    Codes rank by log_p to the hundredth, then by index: those that differ by rounding alone must not rank by the batch that they are in.
    """
    if mass >= 1:
        return log_p
    order = (100 * log_p).round().argsort(dim=-1, descending=True, stable=True)
    ordered = log_p.gather(-1, order)
    likelier = ordered.exp().cumsum(-1) - ordered.exp()  # the mass of the codes before
    kept = torch.where(likelier < mass, ordered, math.log(NEVER))
    return torch.empty_like(log_p).scatter(-1, order, kept).log_softmax(-1)


def extrapolated(conditional: Tensor, free: Tensor, scale: float) -> Tensor:
    """log p(x_0 | null) + s (log p(x_0 | y) - log p(x_0 | null)), normalised: discrete guidance (Tang et al. 2022, arXiv 2205.16007)."""
    return (free + scale * (conditional - free)).log_softmax(-1)


def _with_mask(log_codes: Tensor, mask: Tensor) -> Tensor:
    """log_codes (..., K) with the mask's log-probability appended; `mask` broadcasts with (...,)."""
    last = mask.clamp_min(NEVER).log().expand(log_codes.shape[:-1])
    return torch.cat([log_codes, last[..., None]], dim=-1)
