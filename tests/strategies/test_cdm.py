"""The cascade: identity without augmentation, the closed form of Gaussian images and their means, the price of both stages."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from bench.diffusion.denoisers.cascade import Cascade, Refiner, blurred, condition, cut, shrunk
from bench.diffusion.denoisers.exact import ExactDenoiser
from bench.diffusion.grids import leading
from bench.diffusion.schedules import T, linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from bench.meters.flops import network_flops, trajectory_flops
from bench.registry import discover
from bench.testing import checks
from bench.testing.subject import Subject, tiny_assets
from bench.training.cascade import half_blurred, noised, refiner_loss, unchanged
from strategies.eds.pyramidal.cdm import CDM, Augmentation, Handover
from tests.oracles import Recorded, request

TABLE = sigma_of(linear_alpha_bar())
SHAPE, SMALL = (1, 4, 4), (1, 2, 2)


def blocks() -> Tensor:
    """The matrix (4, 16) of the means of 2x2 blocks."""
    rows = [[0.25 * (i // 2 == r and j // 2 == c) for i in range(4) for j in range(4)] for r in range(2) for c in range(2)]
    return torch.tensor(rows, dtype=torch.float64)


def law() -> tuple[Tensor, Tensor]:
    """(mean (16,), covariance (16, 16)) of the images: neighbours correlate."""
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).double()
    return 0.4 * torch.sin(torch.arange(16.0).double()), 0.25 * (-torch.cdist(place, place) / 2).exp() + 0.02 * torch.eye(16).double()


class Exact(ExactDenoiser):
    """E[x0 | x] of N(mean, covariance)."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.mean, self.covariance = mean, covariance

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        noisy = self.covariance + float(sigma[0]) ** 2 * torch.eye(len(self.covariance)).double()
        gain = torch.linalg.solve(noisy, self.covariance)  # both symmetric: its transpose is covariance noisy^-1
        return (self.mean + (x.flatten(1) - self.mean) @ gain).reshape(x.shape)


class ExactRefiner(ExactDenoiser):
    """E[x0 | x, z] where z is the noisy small image, read off the condition: its level from the last channel, its pixels from the first."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None, condition: Tensor) -> Tensor:
        told = float(condition[0, 1, 0, 0])
        level = told / (1 - told**2) ** 0.5
        enlarge = nn.functional.interpolate(torch.eye(4).double().reshape(4, *SMALL), scale_factor=2.0, mode="bilinear").reshape(4, 16)
        z = condition[:, 0].flatten(1) @ torch.linalg.pinv(enlarge) * (1 + level**2) ** 0.5
        (mean, covariance), a = law(), blocks()
        gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + level**2 * torch.eye(4).double())
        left = Exact(torch.zeros(16).double(), covariance - gain @ a @ covariance)
        given = (mean + (z - a @ mean) @ gain.T).reshape(x.shape)
        return given + left(x - given, sigma)


class Probes:
    """Draws that are 0 in the first image, and 1 in one coordinate of one draw in each other one: a linear sampler shows its matrix."""

    def __init__(self, images: int) -> None:
        self.images, self.used = images, 1

    def normal(self, *shape: int) -> Tensor:
        size = int(torch.tensor(shape).prod())
        out = torch.zeros(self.images, size, dtype=torch.float64)
        out[self.used : self.used + size] = torch.eye(size).double()
        self.used += size
        return out.reshape(-1, *shape)

    def uniform(self, *shape: int) -> Tensor:
        raise AssertionError(f"a normal sampler asked for uniform numbers {shape}")


@pytest.mark.parametrize(("s", "handover"), [(0, Handover.RENOISED), (300, Handover.RENOISED), (300, Handover.TRUNCATED)])
@torch.no_grad()
def test_exact_stages_give_the_exact_law(s: int, handover: Handover) -> None:
    """Mean and covariance of the cascade's images, by its matrix: at every s and for both handovers those of the data."""
    (mean, covariance), a = law(), blocks()
    model = Cascade(Exact(a @ mean, a @ covariance @ a.T), ExactRefiner())
    draws = Probes(1 + 4 + (4 if s and handover is Handover.RENOISED else 0) + 16)
    strategy = CDM(steps=1000, refine_steps=1000, s=s, handover=handover)
    out = strategy.cascaded(model, draws, SHAPE, torch.zeros(draws.images)).flatten(1)
    assert draws.used == draws.images  # every draw was probed
    matrix = (out[1:] - out[0]).T
    assert torch.allclose(out[0], mean, atol=0.01)
    assert torch.allclose(matrix @ matrix.T, covariance, atol=0.01)
    small = a @ matrix
    assert torch.allclose(small @ small.T, a @ covariance @ a.T, atol=0.005)


class Copy(ExactDenoiser):
    """A second stage that believes its condition."""

    def __init__(self) -> None:
        super().__init__()
        self.null = 10

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None, condition: Tensor) -> Tensor:
        return condition[:, : x.shape[1]]


@pytest.mark.parametrize("handover", list(Handover))
@torch.no_grad()
def test_without_augmentation_the_second_stage_is_told_the_first_ones_image(handover: Handover) -> None:
    a = blocks()
    mean, covariance = law()
    model = Cascade(Exact(a @ mean, a @ covariance @ a.T), Copy())
    out = CDM(steps=10, refine_steps=3, s=0, handover=handover).cascaded(model, Recorded(torch.arange(5)), SHAPE, torch.zeros(5))
    sigmas = leading(TABLE, 10)
    z = Recorded(torch.arange(5)).normal(*SMALL) * float((1 + sigmas[0] ** 2) ** 0.5)
    for high, low in itertools.pairwise(sigmas):
        x0 = model.base(z, high.expand(5))
        z = x0 + low / high * (z - x0)
    assert torch.allclose(out, nn.functional.interpolate(z, scale_factor=2.0, mode="bilinear"), atol=1e-10)
    assert out.std() > 0.1


def test_truncated_grid_ends_at_the_level_and_is_whole_at_none() -> None:
    sigmas = leading(TABLE, 10)
    assert torch.equal(cut(sigmas, 0.0), sigmas)
    last = float(TABLE[299])
    short = cut(sigmas, last)
    assert float(short[-1]) == last and len(short) == 8 and bool((short.diff() < 0).all())
    assert cut(sigmas, float(TABLE[999])).tolist() == [float(TABLE[999])]


@torch.no_grad()
def test_condition_is_scaled_to_unit_variance_and_tells_its_noise() -> None:
    z = torch.full((2, 3, 4, 4), 0.7)
    sigma = torch.tensor([0.0, 3.0], dtype=torch.float64)
    out = condition(z, sigma)
    assert out.shape == (2, 4, 8, 8)
    assert torch.allclose(out[0, :3], torch.full((3, 8, 8), 0.7)) and not out[0, 3].any()
    assert torch.allclose(out[1, :3], torch.full((3, 8, 8), 0.7 / 10**0.5)) and torch.allclose(out[1, 3], torch.full((8, 8), 0.9**0.5))


def test_noise_is_of_the_level_told_and_levels_are_even() -> None:
    z = torch.full((4000, 1, 4, 4), 0.3)
    got, sigma = noised(z, TABLE, torch.Generator().manual_seed(0))
    standard = ((got - z).flatten(1) / sigma.float().clamp_min(1e-9)[:, None])[sigma > 0]
    assert float(standard.std()) == pytest.approx(1, abs=0.01) and float(standard.mean()) == pytest.approx(0, abs=0.01)
    times = torch.searchsorted(TABLE, sigma)
    assert float(times.double().mean() / T) == pytest.approx(0.5, abs=0.02)
    assert float((times > 0.9 * T).double().mean()) == pytest.approx(0.1, abs=0.02)
    same, none = unchanged(z, TABLE, torch.Generator())
    assert same is z and none.tolist() == [0.0] * len(z)


def test_blur_keeps_sums_and_spreads_as_a_normal_and_leaves_half_alone() -> None:
    z = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    z[:, :, 2, 2] = 1
    out = blurred(z, torch.tensor([0.4, 0.6], dtype=torch.float64))
    assert torch.allclose(out.sum((1, 2, 3)), torch.ones(2).double())
    for k, sd in enumerate((0.4, 0.6)):
        assert float(out[k, 0, 2, 3] / out[k, 0, 2, 2]) == pytest.approx(2.718281828459045 ** (-0.5 / sd**2))
        assert float(out[k, 0, 3, 3] / out[k, 0, 2, 2]) == pytest.approx(2.718281828459045 ** (-1 / sd**2))
    assert torch.allclose(blurred(torch.ones(1, 2, 4, 4), torch.tensor([0.5])), torch.ones(1, 2, 4, 4))
    soft, sigma = half_blurred(z[:1].expand(2000, -1, -1, -1).float(), TABLE, torch.Generator().manual_seed(0))
    alone = (soft[:, 0, 2, 2] == 1).double().mean()
    assert float(alone) == pytest.approx(0.5, abs=0.05) and not sigma.any()


def test_loss_is_zero_for_a_copy_where_the_small_image_says_all() -> None:
    """Images of one colour each: the condition is the image, if it is that image's own, unaltered."""
    copy = Copy()
    copy.sigmas = TABLE  # type: ignore[assignment]
    images = torch.linspace(-1, 1, 16)[:, None, None, None].expand(-1, 1, 8, 8)
    labels = torch.zeros(16, dtype=torch.long)
    assert float(refiner_loss(copy, unchanged)(images, labels, torch.Generator().manual_seed(0))) < 1e-9  # type: ignore[arg-type]
    assert float(refiner_loss(copy, half_blurred)(images, labels, torch.Generator().manual_seed(0))) < 1e-9  # type: ignore[arg-type]
    assert float(refiner_loss(copy, noised)(images, labels, torch.Generator().manual_seed(0))) > 0.1  # type: ignore[arg-type]
    assert torch.equal(shrunk(images), images[:, :, :4, :4])


def test_cost_is_the_sum_over_the_stages() -> None:
    strategy = CDM(steps=6, refine_steps=3)
    model = strategy.fit(tiny_assets().kit_with(()))
    with counted(model, with_levels=True) as calls:
        flops = trajectory_flops(lambda: strategy.sample(model, request(2)))
    assert dict(calls.rows) == {"base": 12, "refiner": 6} and calls.steps() == 9
    x, z, sigma, labels = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4), torch.ones(2), torch.zeros(2, dtype=torch.long)
    base, refiner = network_flops(model.base, (z, sigma, labels)), network_flops(model.refiner, (x, sigma, labels, condition(z, sigma)))
    assert flops.per_image * 2 == 6 * base + 3 * refiner
    assert base < refiner / 3
    short = CDM(steps=6, refine_steps=3, s=400, handover=Handover.TRUNCATED)
    with counted(model) as calls:
        short.sample(model, request(2))
    assert dict(calls.rows) == {"base": 6, "refiner": 6}  # of the times 830, 664, 498, 332, 166, 0 three lie above 399


@pytest.mark.parametrize(
    "overrides", [{"handover": "truncated"}, {"augmentation": "none", "s": 0}, {"augmentation": "blur", "s": 0}], ids=str
)
def test_other_configurations_conform(overrides: dict[str, str]) -> None:
    subject = Subject("eds.pyramidal.cdm", discover())
    subject.strategy = subject.registry.build("eds.pyramidal.cdm", {**overrides, "steps": 6, "refine_steps": 4})
    for check in (checks.check_images, checks.check_batch_invariance, checks.check_state_dict, checks.check_flops):
        check(subject)


def test_training_depends_on_the_augmentation_and_its_networks_are_frozen() -> None:
    models = [CDM(augmentation=kind, s=0).fit(tiny_assets().kit_with(())) for kind in Augmentation]
    weights = [model.refiner.net.stem.weight for model in models]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert all(torch.equal(models[0].base.net.stem.weight, m.base.net.stem.weight) for m in models)
    assert isinstance(models[0].refiner, Refiner) and not any(p.requires_grad for p in models[0].parameters())


@pytest.mark.parametrize("fields", [{"steps": 0}, {"refine_steps": 0}, {"s": -1}, {"s": 1001}, {"augmentation": Augmentation.BLUR, "s": 5}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        CDM(**fields)  # type: ignore[arg-type]
