"""Progressive distillation: the target is right, and an exact teacher leaves its student nothing to learn."""

import pytest
import torch

from bench.diffusion.denoisers.exact import GaussianDenoiser, probability_flow_sd
from bench.diffusion.gaussian import ddim_mean_batch
from bench.diffusion.grids import trailing
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from strategies.eps.scheduling.progressive_distillation import ProgressiveDistillation, distillation_target, halving_loss
from tests.oracles import denoiser

TABLE = sigma_of(linear_alpha_bar())


def noised(levels: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(len(levels), 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return levels[:, 0, None, None, None] * noise


@torch.no_grad()
def test_one_student_step_with_the_target_is_two_teacher_steps() -> None:
    teacher, grid = denoiser(), trailing(TABLE, 8)
    levels = torch.stack([grid[0::2][:-1], grid[1::2], grid[2::2]], dim=1)
    x, labels = noised(levels), torch.arange(len(levels))
    target = distillation_target(teacher, x, levels, labels)
    high, middle, low = levels.unbind(1)
    halfway = ddim_mean_batch(x, teacher(x, high, labels), high, middle)
    two = ddim_mean_batch(halfway, teacher(halfway, middle, labels), middle, low)
    one = ddim_mean_batch(x, target, high, low)
    scale = 1 / (1 + low**2).sqrt()[:, None, None, None]  # compare in variance-preserving units
    assert torch.allclose(one * scale, two * scale, atol=1e-6)


@torch.no_grad()
def test_last_target_is_the_last_two_steps_result() -> None:
    """Where the step ends at sigma 0 the target is the arrival itself."""
    teacher = denoiser()
    levels = torch.tensor([[0.9, 0.3, 0.0]], dtype=torch.float64)
    x, labels = noised(levels), torch.zeros(1, dtype=torch.long)
    halfway = ddim_mean_batch(x, teacher(x, levels[:, 0], labels), levels[:, 0], levels[:, 1])
    assert torch.allclose(distillation_target(teacher, x, levels, labels), teacher(halfway, levels[:, 1], labels), atol=1e-10)


@torch.no_grad()
def test_targets_of_gaussian_data_approach_the_flow() -> None:
    """With ever more steps the composed teacher maps like the exact probability flow of N(0, 0.25)."""
    teacher = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.25)).double()
    errors = []
    for middle in (1.9, 1.99):
        levels = torch.tensor([[2.0, middle, 2 * middle - 2.0]], dtype=torch.float64)
        x = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
        target = distillation_target(teacher, x, levels, torch.zeros(1))
        arrived = float(ddim_mean_batch(x, target, levels[:, 0], levels[:, 2]))
        low = float(levels[0, 2])
        errors.append(abs(arrived - 3.0 * probability_flow_sd(0.25, low) / probability_flow_sd(0.25, 2.0)))
    assert errors[1] < errors[0] / 50  # local error of second order


def test_loss_is_zero_for_a_student_that_already_composes() -> None:
    """A linear world: data are a point, every denoiser returns it, and two steps are one."""
    point = GaussianDenoiser(torch.full((1, 1, 1), 0.3), torch.zeros(1, 1, 1))
    loss = halving_loss(point, point, TABLE, steps=4)
    images = torch.full((16, 1, 8, 8), 0.3)
    value = loss(images, torch.zeros(16, dtype=torch.long), torch.Generator().manual_seed(0))
    assert float(value) < 1e-8


@pytest.mark.parametrize("fields", [{"halvings": -1}, {"steps": 0}, {"tuning_share": 0.0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ProgressiveDistillation(**fields)  # type: ignore[arg-type]
