"""The reverse SDE with steps that adapt to each image: two solutions of different order say how far to go, and whether to go back.

Paper: Jolicoeur-Martineau, Li, Piche-Taillefer, Kachman & Mitliagkas 2021, "Gotta Go Fast When Generating Data with Score-Based Models",
    arXiv 2105.14080.
Saves: evaluations: each image takes the steps that it needs, two evaluations an attempt, rejected ones included.
Differs: the score is that of the shared network, trained at the thousand times of the chain, at times between them; images that have
    arrived cost nothing more, where the authors' code evaluates the whole batch until its slowest image arrives.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from bench.cards import AssetName, Card, Claim, Heading, Need, Relation
from bench.contract import Denoiser, Draws, Kit, Request, Strategy
from bench.diffusion.batch import everywhere
from bench.diffusion.solvers.sde import END, Score, denoised, increment, score_of
from bench.registry import register

ATTEMPTS = 10_000  # an image that needs more will never arrive


@register
@final
@dataclass(frozen=True, kw_only=True)
class EMSDE(Strategy[Denoiser]):
    """Tolerances `e_rel` (table 1: 0.01 to 0.5) and `e_abs` (one grey level, 2 / 256), the length `first` of the first step,
    and `safety` theta and `exponent` r of the next step's, theta h E^-r (algorithm 1).
    """

    e_rel: float = 0.1
    e_abs: float = 2 / 256
    first: float = 0.01
    safety: float = 0.9
    exponent: float = 0.9

    card: ClassVar[Card] = Card(
        title="Gotta Go Fast (EMSDE)",
        paper="Gotta Go Fast When Generating Data with Score-Based Models",
        year=2021,
        arxiv="2105.14080",
        heading=Heading.SCORE_SDE,
        rows=("I-18",),
        saves="evaluations, without training",
        likelihood="inherited: the likelihood is that of the score model, see Score SDE",
        assets=(AssetName.DENOISER,),
        needs=(Need.LINEAR_VP, Need.POSTERIOR_MEAN),
        sampling_fields=("e_rel", "e_abs", "first", "safety", "exponent"),
        sweep=({"e_rel": 0.1}, {"e_rel": 0.5}),
        claims=(
            Claim(
                text="adaptive steps are better than equal ones of Euler and Maruyama at about as many evaluations",
                metric="fd",
                params={"e_rel": 0.1},
                relation=Relation.AT_MOST,
                factor=1.0,
                baseline="eds.score_sde.pf_ode",
                baseline_params={"sampler": "euler_maruyama", "steps": 100},
                figure="CIFAR-10, VP-deep: FID 2.73 at 151 evaluations against 25.05 at 180",
                source="arXiv 2105.14080, table 1",
                verified=True,
            ),
        ),
    )

    def __post_init__(self) -> None:
        if self.e_rel <= 0 or self.e_abs <= 0:
            raise ValueError(f"e_rel and e_abs must be positive, not {self.e_rel} and {self.e_abs}")
        if not 0 < self.first <= 1 - END:
            raise ValueError(f"first must lie in 0..{1 - END}, not {self.first}")
        if not 0 < self.safety < 1 or not 0 < self.exponent <= 1:
            raise ValueError(f"safety must lie inside 0..1 and exponent in 0..1, not {self.safety} and {self.exponent}")

    def fit(self, kit: Kit) -> Denoiser:
        return kit.denoiser()

    def sample(self, model: Denoiser, request: Request) -> Tensor:
        draws = request.draws()
        return model.space.decode(self.solve(model, draws.normal(*model.space.state(request.shape)), request.labels, draws), request.shape)

    def solve(self, denoiser: Denoiser, y: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """From y (B, C, H, W) at time 1 to x0, each image at steps of its own; only images on their way are evaluated.

        Which they are must be known here, so that the host waits for the device once an attempt. A rejected attempt draws anew.
        Raises ArithmeticError where a step cannot be found.
        """
        y, before = y.clone(), y.clone()
        left, h = everywhere(1 - END, y), everywhere(self.first, y)  # time to go, and the length of the next step
        for _ in range(ATTEMPTS):
            active = left.nonzero()[:, 0]
            if not len(active):
                return denoised(denoiser, y, everywhere(END, y), labels)
            z = draws.normal(*y.shape[1:])[active]  # drawn for all: the k-th attempt of an image has its k-th draw in any batch
            here, last, t, step = y[active], before[active], END + left[active], h[active]
            fine, coarse, error = self.attempt(score_of(denoiser, labels[active]), here, last, t, step, z)
            if not error.isfinite().all():
                raise ArithmeticError("the score is not finite, and no step can be found")
            accepted = error <= 1
            y[active] = torch.where(accepted[:, None, None, None], fine, here)
            before[active] = torch.where(accepted[:, None, None, None], coarse, last)
            left[active] = torch.where(accepted, left[active] - step, left[active])
            h[active] = torch.minimum(left[active], self.safety * step * error.pow(-self.exponent))
        raise ArithmeticError(f"not all images have arrived after {ATTEMPTS} attempts")

    def attempt(self, score: Score, y: Tensor, before: Tensor, t: Tensor, h: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(y'', y', E): one step of length h (B,) back from t by stochastic Heun and by Euler and Maruyama, and their distance (B,).

        y' = y + step(y, t), y'' = y + (step(y, t) + step(y', t - h)) / 2, all with the noise z; E, float64, is the root mean square over
        the pixels of (y' - y'') / max(e_abs, e_rel max(|y'|, |before|)), where `before` is y' of the last accepted step (algorithm 1).
        """
        step = increment(score, y, t, h, z)
        coarse = y + step
        fine = y + (step + increment(score, coarse, t - h, h, z)) / 2
        tolerated = (self.e_rel * torch.maximum(coarse.abs(), before.abs())).clamp_min(self.e_abs)
        return fine, coarse, ((coarse - fine) / tolerated).flatten(1).double().square().mean(1).sqrt()
