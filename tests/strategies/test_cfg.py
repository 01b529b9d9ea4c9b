"""Classifier-free guidance: identity at weight 0, its price, and the closed form of two Gaussians."""

import pytest
import torch
from torch import Tensor

from bench.diffusion.denoisers.exact import ExactDenoiser
from bench.diffusion.denoisers.parametrise import ClassifierFree
from bench.meters.calls import counted
from strategies.eds.guidance.cfg import CFG
from strategies.eds.representation.ddim import DDIM
from tests.oracles import denoiser, request


class TwoPoints(ExactDenoiser):
    """Classes 0 and 1 are N(-1, 1) and N(+1, 1); label 2 is their even mixture. Closed-form denoiser of each."""

    def __init__(self) -> None:
        super().__init__()
        self.null = 2

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        noise = sigma[:, None, None, None] ** 2
        means = torch.tensor([-1.0, 1.0], dtype=x.dtype)
        of_class = [m + (x - m) / (1 + noise) for m in means]
        right = torch.sigmoid(2 * x / (1 + noise))
        mixture = right * of_class[1] + (1 - right) * of_class[0]
        stacked = torch.stack([*of_class, mixture])
        return stacked[labels, torch.arange(len(x))]


@torch.no_grad()
def test_weight_zero_is_conditional_sampling_at_one_evaluation_a_step() -> None:
    base = denoiser(torch.float32)
    guided = ClassifierFree(base, 0.0)
    with counted(guided) as calls:
        images = CFG(weight=0.0, steps=5).sample(guided, request(4))
    assert torch.equal(images, DDIM(steps=5).sample(base, request(4)))
    assert sum(calls.rows.values()) == 4 * 5


@torch.no_grad()
def test_guidance_costs_two_rows_a_step() -> None:
    guided = ClassifierFree(denoiser(torch.float32), 2.0)
    with counted(guided, with_levels=True) as calls:
        CFG(weight=2.0, steps=5).sample(guided, request(4))
    assert sum(calls.rows.values()) == 2 * 4 * 5 and calls.steps() == 5


@torch.no_grad()
def test_guided_mean_of_two_gaussians() -> None:
    """(1 + w) D_c - w D equals the denoiser of the tilted density p_c^(1 + w) / p^w, whose score is known."""
    w, sigma = 1.5, torch.tensor([0.7], dtype=torch.float64)
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None, None, None].requires_grad_(True)
    labels = torch.ones(len(x), dtype=torch.long)
    guided = ClassifierFree(TwoPoints(), w)(x, sigma.expand(len(x)), labels)
    spread = 1 + sigma**2
    with torch.enable_grad():
        log_right, log_left = -((x - 1) ** 2) / 2 / spread, -((x + 1) ** 2) / 2 / spread
        tilted = (1 + w) * log_right - w * torch.logaddexp(log_right, log_left)
        (score,) = torch.autograd.grad(tilted.sum(), x)
    assert torch.allclose(guided, x + sigma**2 * score, atol=1e-10)


@torch.no_grad()
def test_equal_branches_leave_nothing_to_guide() -> None:
    base = denoiser()
    x, sigma = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.full((3,), 2.0)
    null = torch.full((3,), 10)
    assert torch.allclose(ClassifierFree(base, 4.0)(x, sigma.double(), null), base(x, sigma.double(), null), atol=1e-9)


def test_guidance_without_a_null_condition_is_refused() -> None:
    base = TwoPoints()
    base.null = None
    with pytest.raises(ValueError, match="null condition"):
        ClassifierFree(base, 1.0)
    ClassifierFree(base, 0.0)  # conditional sampling asks for none
