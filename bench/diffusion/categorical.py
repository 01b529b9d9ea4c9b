"""Multinomial diffusion as pure functions of log-probabilities with the K categories in the last axis.

Hoogeboom et al. 2021 (arXiv 2102.05379, section 4): q(x_t | x_{t-1}) = Cat(a_t x_{t-1} + (1 - a_t) / K).
"""

import math

import torch
from torch import Tensor


def cosine_retention(steps: int) -> tuple[Tensor, Tensor]:
    """(a (T,), abar (T + 1,) with abar_0 = 1) in float64: a_t is the *square root* of the cosine schedule's alpha, clipped from below."""
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((times + 0.008) / 1.008 * math.pi / 2).square()
    a = (curve[1:] / curve[:-1]).clamp(0.001, 1.0).sqrt()
    return a, torch.cat([a.new_ones(1), torch.cumprod(a, dim=0)])


def log_blend(log_x: Tensor, keep: Tensor) -> Tensor:
    """log(keep * x + (1 - keep) / K) for log-probabilities (..., K) and keep (...,)."""
    uniform = torch.log1p(-keep.clamp(max=1 - 1e-15)) - math.log(log_x.shape[-1])
    return torch.logaddexp(log_x + keep.log()[..., None], uniform[..., None])


def log_posterior(log_x0: Tensor, log_xt: Tensor, step_keep: Tensor, keep_before: Tensor) -> Tensor:
    """log q(x_{t-1} | x_t, x_0), eq. 13: the product of the step's kernel at x_t and the marginal at t - 1, normalised over K."""
    joint = log_blend(log_xt, step_keep) + log_blend(log_x0, keep_before)
    return joint - joint.logsumexp(-1, keepdim=True)


def log_onehot(index: Tensor, categories: int) -> Tensor:
    """Log-probabilities (..., K) of a certain category, with log(1e-30) for the others."""
    return torch.nn.functional.one_hot(index, categories).double().clamp_min(1e-30).log()


def draw(log_p: Tensor, uniform: Tensor) -> Tensor:
    """Categories (...,) by inverting the cumulative distribution at uniform (...,) in [0, 1)."""
    cumulative = log_p.exp().cumsum(-1)
    return (uniform[..., None] * cumulative[..., -1:] >= cumulative).sum(-1).clamp(max=log_p.shape[-1] - 1)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) (...,) in nats."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
