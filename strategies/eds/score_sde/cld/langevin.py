"""Critically damped Langevin diffusion of position and velocity in closed form, and the integrators of its reverse.

Dockhorn, Vahdat & Kreis 2022 (arXiv 2112.07068, eq. 5), with mass M, friction Gamma = 2 sqrt(M) and a constant rate beta:
    dx = v / M beta dt,    dv = -x beta dt - Gamma v / M beta dt + sqrt(2 Gamma beta) dw,
whose law at rest is N(0, 1) x N(0, M). The drift has the double eigenvalue -1 / sqrt(M), so that its exponential over t is
    E = exp(-a) [[1 + a, a / sqrt(M)], [-a sqrt(M), 1 - a]],    a = beta t / sqrt(M),
and a covariance S becomes R - E (R - S) E^T, with R = diag(1, M) that of rest (Lyapunov's equation). The reverse without its score term
is the forward process with the position's sign turned, -x: the analytic half of the splitting below.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bench.contract import Draws

Score = Callable[[Tensor, float], Tensor]
"""(state (B, 2C, H, W), time) -> gradient (B, C, H, W) of the log-density with respect to the velocity."""

LAST_TIME = 1e-3  # where the reverse integration ends, and the denoising step begins


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """The constants of section 5: 1 / M, beta, and gamma, the variance of the first velocities in units of M."""

    inverse_mass: float = 4.0
    beta: float = 4.0
    gamma: float = 0.04

    @property
    def mass(self) -> float:
        return 1 / self.inverse_mass

    @property
    def friction(self) -> float:
        return 2 * math.sqrt(self.mass)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """A linear Gaussian transition: the mean's matrix (xx, xv; vx, vv) and the covariance's Cholesky factor; float64, of one shape.

    `chol_vv` is 1 / l_t of section 3.2: the velocity's deviation, given the position.
    """

    mean_xx: Tensor
    mean_xv: Tensor
    mean_vx: Tensor
    mean_vv: Tensor
    chol_xx: Tensor
    chol_vx: Tensor
    chol_vv: Tensor

    @property
    def variance_v(self) -> Tensor:
        return self.chol_vx.square() + self.chol_vv.square()

    def each(self) -> Iterator["Kernel"]:
        """The transitions one by one, of a kernel over times (N,)."""
        names = [field.name for field in fields(self)]
        for entries in zip(*(getattr(self, name).unbind() for name in names), strict=True):
            yield Kernel(**dict(zip(names, entries, strict=True)))


def kernel(process: Langevin, t: Tensor, gamma: float) -> Kernel:
    """Transition over times t (...,) from a certain position and a velocity of variance gamma M: appendix B.1.

    gamma = 0 is the transition from a point (denoising score matching); with the process's own gamma and the velocity's mean 0 it is the
    kernel of hybrid score matching, given x0 alone. The covariance is written so that little of its order cancels at small t.
    """
    root, a = math.sqrt(process.mass), process.beta * math.sqrt(process.inverse_mass) * t.double()
    decay, growth = (-a).exp(), torch.expm1(2 * a)
    variance_x = growth - 2 * a - 2 * a.square() + gamma * a.square()  # in units of decay^2, as the next two
    covariance = root * a * (2 * a + gamma * (1 - a))
    variance_v = process.mass * (growth + 2 * a - 2 * a.square() + gamma * (1 - a).square())
    return Kernel(
        mean_xx=decay * (1 + a),
        mean_xv=decay * a / root,
        mean_vx=-decay * a * root,
        mean_vv=decay * (1 - a),
        chol_xx=decay * variance_x.sqrt(),
        chol_vx=decay * covariance / variance_x.sqrt(),
        chol_vv=decay * (variance_v - covariance.square() / variance_x).sqrt(),
    )


def perturbed(step: Kernel, x: Tensor, v: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Position and velocity (B, C, H, W) after a transition; noise (B, 2C, H, W) standard normal; entries of `step` broadcast to x."""
    first, second = noise.chunk(2, dim=1)
    moved = step.mean_xx * x + step.mean_xv * v + step.chol_xx * first
    turned = step.mean_vx * x + step.mean_vv * v + step.chol_vx * first + step.chol_vv * second
    return moved.to(x.dtype), turned.to(x.dtype)


def at_rest(process: Langevin, draws: Draws, shape: tuple[int, int, int]) -> Tensor:
    """States (B, 2C, H, W) drawn from N(0, 1) x N(0, M) for images (C, H, W)."""
    channels, height, width = shape
    x, v = draws.normal(2 * channels, height, width).chunk(2, dim=1)
    return torch.cat([x, math.sqrt(process.mass) * v], dim=1)


def quadratic_steps(steps: int) -> Tensor:
    """Times (S + 1,) from 1 down to `LAST_TIME`, quadratic in their index: long steps where there is noise alone (section 5)."""
    if not 1 <= steps <= 1000:
        raise ValueError(f"steps must lie in 1..1000, not {steps}")
    return LAST_TIME + (1 - LAST_TIME) * torch.linspace(1, 0, steps + 1, dtype=torch.float64).square()


def sscs(score: Score, state: Tensor, times: Tensor, process: Langevin, draws: Draws) -> Tensor:
    """The symmetric splitting sampler (section 3.3, eq. 10) over descending times (S + 1,): images (B, C, H, W), one score a step.

    Half a step of Hamiltonian and Ornstein-Uhlenbeck dynamics, exact; a whole Euler step of the score term; half a step again.
    """
    x, v = state.chunk(2, dim=1)
    halves = kernel(process, -times.diff() / 2, gamma=0.0).each()
    for (high, low), half in zip(itertools.pairwise(times.tolist()), halves, strict=True):
        x, v = backwards(half, x, v, draws)
        pull = score(torch.cat([x, v], dim=1), high) + process.inverse_mass * v
        v = v + 2 * process.friction * process.beta * (high - low) * pull
        x, v = backwards(half, x, v, draws)
    return denoised(x, v, float(times[-1]), process)


def euler_maruyama(score: Score, state: Tensor, times: Tensor, process: Langevin, draws: Draws) -> Tensor:
    """Euler's steps of the whole reverse process (section 3.3) over descending times (S + 1,): images (B, C, H, W), one score a step."""
    x, v = state.chunk(2, dim=1)
    for high, low in itertools.pairwise(times.tolist()):
        dt = process.beta * (high - low)
        gradient = score(torch.cat([x, v], dim=1), high)
        drift = x + process.friction * process.inverse_mass * v + 2 * process.friction * gradient
        noise = math.sqrt(2 * process.friction * dt) * draws.normal(*x.shape[1:])
        x, v = x - process.inverse_mass * v * dt, v + drift * dt + noise
    return denoised(x, v, float(times[-1]), process)


def backwards(step: Kernel, x: Tensor, v: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """The reverse process without its score term."""
    x, v = perturbed(step, -x, v, draws.normal(2 * x.shape[1], *x.shape[2:]))
    return -x, v


def denoised(x: Tensor, v: Tensor, time: float, process: Langevin) -> Tensor:
    """The noiseless Euler step from `time` to 0 (appendix D). The position needs no score, so that no evaluation is spent on it."""
    return x - process.inverse_mass * process.beta * time * v
