"""The guided stack: identities with its parts, the closed form of Gaussian classes and their means, the price of both stages."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor, nn

from bench.data.datasets import DataSource, load
from bench.data.images import to_model
from bench.diffusion.denoisers.cascade import enlarged, shrunk
from bench.diffusion.denoisers.exact import ExactDenoiser
from bench.diffusion.grids import leading_times
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from bench.meters.flops import network_flops, trajectory_flops
from bench.nets.classifier import NoisyClassifier, accuracy
from bench.registry import discover
from bench.testing import checks
from bench.testing.subject import Subject, tiny_assets
from bench.training.cascade import clean, enlarging_loss
from bench.training.recipes.noisy_classifier import build_noisy_classifier, fit_noisy_classifier
from strategies.eds.guidance.adm_u import ADMU, GuidedCascade
from tests.oracles import Recorded, kit_of, request

TABLE = sigma_of(linear_alpha_bar())
SHAPE, SMALL = (1, 4, 4), (1, 2, 2)
CENTRES = torch.tensor([[-0.4, 0.2, 0.3, 0.0], [0.3, 0.3, -0.2, 0.1], [0.0, -0.4, 0.1, -0.3]]).double()[:, None].reshape(3, *SMALL)
SPREAD = 0.01  # variance of each pixel of the small images, and of the full-size ones about them


class ExactBase(ExactDenoiser):
    """E[z0 | z] of N(CENTRES[k], SPREAD) for class k."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        gain = (SPREAD / (SPREAD + sigma**2))[:, None, None, None]
        return CENTRES[labels] + gain * (x - CENTRES[labels])


class ExactClassifier(nn.Module):
    """Logits of p(y | z) for the three classes."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -(x[:, None] - CENTRES).square().flatten(2).sum(2) / 2 / (SPREAD + sigma[:, None] ** 2)


class ExactRefiner(ExactDenoiser):
    """E[x0 | x, condition] of N(condition, SPREAD)."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None, condition: Tensor) -> Tensor:
        gain = (SPREAD / (SPREAD + sigma**2))[:, None, None, None]
        return condition + gain * (x - condition)


class Copy(nn.Module):
    """A second stage that believes its condition."""

    sigmas, null = TABLE, 10

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None, condition: Tensor) -> Tensor:
        assert condition.shape == x.shape  # no channel beside the image
        return condition


def exact(refiner: nn.Module) -> GuidedCascade:
    return GuidedCascade(ExactBase(), ExactClassifier(), refiner)


def chain_variance(steps: int) -> float:
    """Of the chain with beta tilde that is told the exact mean of N(., SPREAD): each step is linear in the distance from the mean."""
    sigmas = [*(float(TABLE[t]) for t in leading_times(steps, 1000)), 0.0]
    variance = 1 + sigmas[0] ** 2
    for high, low in itertools.pairwise(sigmas):
        gain, kept = SPREAD / (SPREAD + high**2), (low / high) ** 2
        variance = (gain + kept * (1 - gain)) ** 2 * variance + low**2 * (1 - kept)
    return variance


@torch.no_grad()
def test_without_guidance_exact_stages_give_the_exact_law() -> None:
    """x = enlarged(z) + noise: mean and covariance of 2000 images of each class within five standard errors."""
    labels = torch.arange(6000) % 3
    out = ADMU(scale=0.0, steps=100, refine_steps=50).stacked(exact(ExactRefiner()), Recorded(torch.arange(6000)), SHAPE, labels)
    up = enlarged(torch.eye(4).double().reshape(4, *SMALL)).reshape(4, 16)
    first, second = chain_variance(100), chain_variance(50)
    assert SPREAD > first > second and chain_variance(1000) == pytest.approx(SPREAD, rel=0.1)
    covariance = first * up.T @ up + second * torch.eye(16).double()
    largest = float(covariance.diag().max())
    for k in range(3):
        images = out[labels == k].flatten(1)
        assert torch.allclose(images.mean(0), CENTRES[k].flatten() @ up, atol=5 * (largest / 2000) ** 0.5)
        assert torch.allclose(images.T.cov(), covariance, atol=5 * largest * (2 / 2000) ** 0.5)


class Lively(ExactDenoiser):
    """A second stage that depends on all it is given, and leaves the range of pixels."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor, condition: Tensor) -> Tensor:
        return 0.8 * torch.tanh(x) + 2 * condition.flip(2) + 0.1 * labels[:, None, None, None]


@pytest.mark.parametrize("scale", [0.0, 2.0])
@torch.no_grad()
def test_stack_is_the_guided_chain_then_the_plain_one_on_its_image(scale: float) -> None:
    """Written out: algorithm 1 on small images in the paper's own variable, enlargement, DDPM's chain with beta tilde."""
    labels, steps, seconds = torch.arange(4) % 3, 7, 5
    out = ADMU(scale=scale, steps=steps, refine_steps=seconds).stacked(exact(Lively()), Recorded(torch.arange(4)), SHAPE, labels)
    draws = Recorded(torch.arange(4))
    x = draws.normal(*SMALL)
    for t, low in pairs(steps):
        abar, below = at(t), at(low)
        sigma = ((1 - abar) / abar) ** 0.5
        x0 = ExactBase()(x / abar**0.5, torch.full((4,), sigma, dtype=torch.float64), labels).clamp(-1, 1)
        mean, variance = posterior(x, x0, abar, below)
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            log_p = ExactClassifier()(leaf / abar**0.5, torch.full((4,), sigma, dtype=torch.float64)).log_softmax(1)
            (gradient,) = torch.autograd.grad(sum(log_p[k, y] for k, y in enumerate(labels.tolist())), leaf)
        x = mean + scale * variance * gradient
        x = x + variance**0.5 * draws.normal(*SMALL) if low >= 0 else x
    given = nn.functional.interpolate(x, size=SHAPE[1:], mode="bilinear", align_corners=False)
    x = draws.normal(*SHAPE)
    for t, low in pairs(seconds):
        abar, below = at(t), at(low)
        x0 = Lively()(x / abar**0.5, torch.ones(4), labels, given).clamp(-1, 1)
        mean, variance = posterior(x, x0, abar, below)
        x = mean + variance**0.5 * draws.normal(*SHAPE) if low >= 0 else mean
    assert torch.allclose(out, x, atol=1e-9, rtol=0) and out.std() > 0.05


def pairs(steps: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise([*leading_times(steps, 1000).tolist(), -1]))


def at(t: int) -> float:
    return 1.0 if t < 0 else float(linear_alpha_bar()[t])


def posterior(x: Tensor, x0: Tensor, abar: float, below: float) -> tuple[Tensor, float]:
    """Ho et al. 2020, equation 7, between kept steps."""
    beta = 1 - abar / below
    mean = (below**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - below) * x) / (1 - abar)
    return mean, beta * (1 - below) / (1 - abar)


def test_loss_is_zero_for_a_copy_where_the_small_image_says_all() -> None:
    """Images of one colour each: the condition is the image, if it is that image's own."""
    images = torch.linspace(-1, 1, 16)[:, None, None, None].expand(-1, 1, 8, 8)
    labels = torch.zeros(16, dtype=torch.long)
    loss = enlarging_loss(Copy(), clean)  # type: ignore[arg-type]
    assert float(loss(images, labels, torch.Generator().manual_seed(0))) < 1e-9
    stripes = images * torch.tensor([1.0, -1.0]).repeat(4)  # whose blocks have the mean 0
    assert float(loss(stripes, labels, torch.Generator().manual_seed(0))) > 0.1


def test_classifier_learns_small_images() -> None:
    data = load("digits", DataSource())
    kit = kit_of(data.train_images, data.train_labels, train_images=6_000)
    net = fit_noisy_classifier(build_noisy_classifier(kit), kit, "test", shrunk)
    images = shrunk(to_model(data.test_images))
    level = net.sigmas[50].expand(len(images))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert accuracy(net(images + float(level[0]) * noise, level), data.test_labels) > 0.4


def test_fitted_parts_are_of_their_sizes_and_frozen() -> None:
    seen: dict[str, int] = {}
    kit = dataclasses.replace(tiny_assets().kit_with(()), progress=lambda what, done, _total: seen.__setitem__(what, done))
    alone = fit_noisy_classifier(build_noisy_classifier(kit), kit, "alone", shrunk)
    seen.clear()
    model = ADMU().fit(kit)
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), model.classifier.parameters(), strict=True))
    assert seen == {"ADM-U base": 256, "ADM-U classifier": 256, "ADM-U upsampler": 256}
    assert isinstance(model.classifier, NoisyClassifier) and not any(p.requires_grad for p in model.parameters())
    assert model.refiner.net.stem.in_channels == 2 and model.refiner.net.head.out_channels == 1
    assert not torch.equal(model.base.net.stem.weight, tiny_assets().get("denoiser").module.net.stem.weight)


def test_cost_is_the_sum_over_the_stages_and_guidance_is_paid_on_small_images() -> None:
    strategy = ADMU(steps=6, refine_steps=3)
    model = strategy.fit(tiny_assets().kit_with(()))
    with counted(model, with_levels=True) as calls:
        flops = trajectory_flops(lambda: strategy.sample(model, request(2)))
    assert dict(calls.rows) == {"base": 12, "classifier": 12, "refiner": 6}
    x, z, sigma, labels = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4), torch.ones(2), torch.zeros(2, dtype=torch.long)
    base, refiner = network_flops(model.base, (z, sigma, labels)), network_flops(model.refiner, (x, sigma, labels, enlarged(z)))
    classifier, trunk = network_flops(model.classifier, (z, sigma)), network_flops(model.classifier.trunk, (z, torch.zeros(2, 64)))
    assert flops.per_image * 2 == 6 * (base + classifier + trunk) + 3 * refiner
    with counted(model) as calls:
        ADMU(steps=6, refine_steps=3, scale=0.0).sample(model, request(2))
    assert dict(calls.rows) == {"base": 12, "refiner": 6}


def test_unguided_configuration_conforms() -> None:
    subject = Subject("eds.guidance.adm_u", discover())
    subject.strategy = subject.registry.build("eds.guidance.adm_u", {"scale": 0.0, "steps": 6, "refine_steps": 4})
    for check in (checks.check_images, checks.check_batch_invariance, checks.check_state_dict, checks.check_flops):
        check(subject)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"refine_steps": 0}, {"scale": -0.5}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ADMU(**fields)  # type: ignore[arg-type]
