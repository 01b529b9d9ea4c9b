"""Gaussian samplers with free coefficients: each state is a sum of all states before it, of the estimate of x0, and of noise.

Watson, Chan, Ho & Norouzi 2022 (arXiv 2202.05830, section 3): q(x_t | x_{>t}, x0) = N(sum_u mu_tu x_u + mu_t0 x0, sigma_t^2), x0 replaced
by its estimate. States count in the order of sampling: 0 is pure noise, K the image. In the coordinates x = x0 + sigma * n the sum reads

    x_{i+1} = x0 + sum_{j <= i} w_ij (x_j - x0) + shift_i x0 + noise_i z,    hence mu_{i+1,0} = 1 + shift_i - sum_j w_ij,

and DDIM (arXiv 2010.02502) is w_ii = sigma_{i+1} / sigma_i with all else zero.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contract import Draws

Estimate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (B, C, H, W), sigma (B,) float64, labels (B,)) -> x0 (B, C, H, W), as a `Denoiser`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Float64 coefficients of K steps. The network is asked for x0 at state i divided by `scale`_i, at noise level `level`_i.

    `start` () is the first state's standard deviation; w (K, K) lower triangular; shift, noise, scale and level (K,). The last entry of
    `noise` is not used: an image gets none.
    """

    start: Tensor
    w: Tensor
    shift: Tensor
    noise: Tensor
    scale: Tensor
    level: Tensor


def marginals(sigma: Tensor, w: Tensor, shift: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(m, v) (K,): states 0..K-1 given x0 are N(m x0, v), the first with m = 1 and v = sigma^2 of sigma ().

    Each state is followed as a row of its coefficients on (x0, z_0, ..., z_{K-1}), independent; the same as theorem 1's recursion, which
    substitutes the states from the other end.
    """
    basis = torch.eye(len(w) + 1, dtype=w.dtype, device=w.device)
    rows = [basis[0] + sigma * basis[1]]
    for i in range(len(w) - 1):
        before = torch.stack(rows) - basis[0]
        rows.append((1 + shift[i]) * basis[0] + w[i, : i + 1] @ before + noise[i] * basis[i + 2])
    table = torch.stack(rows)
    return table[:, 0], table[:, 1:].square().sum(1)


def follow(estimate: Estimate, plan: Plan, labels: Tensor, draws: Draws, shape: tuple[int, int, int]) -> Tensor:
    """The image (B, *shape) at the plan's end."""
    states = [draws.normal(*shape) * plan.start]
    last = len(plan.w) - 1
    for i in range(last + 1):
        x0 = estimate(states[i] / plan.scale[i], plan.level[i].expand(len(labels)), labels)
        x = x0 + plan.w[i, i] * (states[i] - x0)
        for j in range(i):
            x = x + plan.w[i, j] * (states[j] - x0)
        x = x + plan.shift[i] * x0
        states.append(x + plan.noise[i] * draws.normal(*shape) if i < last else x)
    return states[-1]
