"""The stochastic sampler of Karras et al. 2022 (arXiv 2206.00364, algorithm 2), for any `Denoiser`.

In the coordinates x = x0 + sigma n the probability flow reads dx/dsigma = (x - D(x, sigma)) / sigma (eq. 1 with s = 1, and eq. 3). Each of
its steps begins with fresh noise, which raises the level a little above the one that was reached ("churn") and leaves the law of x at that
level as it should be. Levels are numbers of the host, known before the first step, so that nothing waits for the device.

The state keeps the dtype of the network: with the shared denoiser of digits float32 ends within 2e-6 of float64, where the authors' code
has a float64 state; a grey level is 8e-3 wide.
"""

import itertools
import math
from dataclasses import dataclass

from torch import Tensor

from bench.contract import Denoiser, Draws
from bench.diffusion.loops import estimate
from bench.diffusion.solvers.runge_kutta import EULER, HEUN, Tableau, step

LARGEST_GAMMA = math.sqrt(2) - 1  # the noise added never has more variance than the noise there is


@dataclass(frozen=True, kw_only=True)
class Churn:
    """How much fresh noise: S_churn over all steps, at levels from S_min to S_max, its standard deviation S_noise times the due one."""

    amount: float = 0.0
    low: float = 0.0
    high: float = math.inf
    noise: float = 1.0

    def __post_init__(self) -> None:
        if not self.amount >= 0 or not 0 <= self.low <= self.high or not self.noise > 0:
            raise ValueError(
                "s_churn must not be negative, s_min must lie in 0..s_max, and s_noise must be positive, "
                f"not {self.amount}, {self.low}..{self.high} and {self.noise}"
            )

    def raised(self, sigma: float, steps: int) -> float:
        """The level from which the step begins that was reached at `sigma`: (1 + gamma) sigma (algorithm 2, lines 4 and 5)."""
        gamma = min(self.amount / steps, LARGEST_GAMMA) if self.low <= sigma <= self.high else 0.0
        return sigma * (1 + gamma)


def slope(denoiser: Denoiser, x: Tensor, sigma: float, labels: Tensor) -> Tensor:
    """dx/dsigma (B, C, H, W)."""
    return (x - estimate(denoiser, x, sigma, labels, clip=False)) / sigma


def churned(denoiser: Denoiser, x: Tensor, sigmas: Tensor, labels: Tensor, draws: Draws, churn: Churn, method: Tableau = HEUN) -> Tensor:
    """From x (B, C, H, W) at sigmas[0] down the descending levels (S + 1,), each step after fresh noise; one draw a step that has some.

    The step to sigma = 0, where there is no slope, is Euler's (algorithm 2, lines 7 to 11), which is DDIM's.
    """
    grid = sigmas.tolist()
    for reached, low in itertools.pairwise(grid):
        high = churn.raised(reached, len(grid) - 1)
        if high > reached:
            x = x + churn.noise * math.sqrt(high**2 - reached**2) * draws.normal(*x.shape[1:])
        x = step(lambda state, sigma: slope(denoiser, state, sigma, labels), x, high, low, method if low > 0 else EULER)
    return x
