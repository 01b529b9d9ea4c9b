"""Classifier guidance: identity at scale 0, the paper's formulae in its own variables, closed forms of Gaussian classes, the price."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from bench.data.images import Pixels
from bench.diffusion.conditioning.guidance import NoiseShifted, log_p_gradient, mean_shifted
from bench.diffusion.denoisers.exact import ExactDenoiser
from bench.diffusion.gaussian import forward_variance
from bench.diffusion.grids import leading, leading_times
from bench.diffusion.loops import start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from bench.meters.flops import network_flops, trajectory_flops
from bench.nets.classifier import NoisyClassifier
from bench.nets.ema import frozen, seeded
from bench.nets.unet import UNet
from bench.registry import discover
from bench.testing import checks
from bench.testing.subject import Subject
from strategies.eds.guidance import adm
from strategies.eds.guidance.adm import ADM, Base, Form, GuidedModel, ReverseVariance
from strategies.eds.representation.ddim import DDIM
from strategies.eds.state_space.ddpm import DDPM
from tests.oracles import Recorded, denoiser, request

TABLE = sigma_of(linear_alpha_bar())


def classifier() -> NoisyClassifier:
    with seeded(4):
        net = NoisyClassifier(1, 10)
        nn.init.normal_(net.trunk.head.weight, std=0.5)  # a decided one
    frozen(net)
    return net


def lively(outputs: int) -> UNet:
    with seeded(3):
        net = UNet(1, outputs, 10, width=8)
        for p in net.parameters():
            if not p.any():
                nn.init.normal_(p, std=0.1)
    frozen(net)
    return net


@pytest.mark.parametrize("base", list(Base))
@torch.no_grad()
def test_scale_zero_is_the_unguided_sampler_bit_for_bit_without_a_classifier_call(base: Base) -> None:
    unguided = denoiser(torch.float32)
    model = GuidedModel(unguided.net, classifier())
    asked = request(4) if base is Base.CONDITIONAL else request(4, labels=[10] * 4)  # the null label
    for form, other in ((Form.DDIM, DDIM(steps=5)), (Form.ANCESTRAL, DDPM(steps=5))):
        with counted(model) as calls:
            images = ADM(scale=0.0, form=form, base=base, steps=5).sample(model, request(4))
        assert torch.equal(images, other.sample(unguided, asked))
        assert dict(calls.rows) == {"net": 20}
        assert not torch.equal(images, ADM(scale=1.0, form=form, base=base, steps=5).sample(model, request(4)))


def reference(model: GuidedModel, strategy: ADM, labels: Tensor, noises: list[Tensor]) -> Tensor:
    """Algorithms 1 and 2 in the paper's own variable x_t = a x, with the gradient with respect to x_t."""
    abars = [*(float(linear_alpha_bar()[t]) for t in leading_times(strategy.steps, 1000)), 1.0]
    given = labels if strategy.base is Base.CONDITIONAL else torch.full_like(labels, 10)
    x, rest = noises[0], iter(noises[1:])
    for t, (abar, abar_next) in zip(leading_times(strategy.steps, 1000).tolist(), itertools.pairwise(abars), strict=True):
        out = model.net(x, torch.full((len(x),), float(t), dtype=x.dtype), given)
        eps, v = out[:, :1], out[:, 1:]
        with torch.enable_grad():
            leaf, sigma = x.clone().requires_grad_(True), ((1 - abar) / abar) ** 0.5
            log_p = model.classifier(leaf / abar**0.5, torch.full((len(x),), sigma, dtype=x.dtype)).log_softmax(1)
            (gradient,) = torch.autograd.grad(sum(log_p[k, y] for k, y in enumerate(labels.tolist())), leaf)
        if strategy.form is Form.DDIM:
            eps = eps - strategy.scale * (1 - abar) ** 0.5 * gradient
            x0 = (x - (1 - abar) ** 0.5 * eps) / abar**0.5
            x = abar_next**0.5 * x0 + (1 - abar_next) ** 0.5 * eps
            continue
        x0 = ((x - (1 - abar) ** 0.5 * eps) / abar**0.5).clamp(-1, 1)
        beta = 1 - abar / abar_next
        mean = (abar_next**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - abar_next) * x) / (1 - abar)
        variance = torch.full_like(x, beta * (1 - abar_next) / (1 - abar))
        if strategy.variance is ReverseVariance.LEARNED:
            share, first = (v + 1) / 2, 1 - linear_alpha_bar()[:2]
            clipped = variance.clamp_min(float((1 - linear_alpha_bar()[1] / linear_alpha_bar()[0]) * first[0] / first[1] / (1 - first[0])))
            variance = beta**share * (clipped if abar_next == 1 else variance) ** (1 - share)
        x = mean + strategy.scale * variance * gradient
        if abar_next < 1:
            x = x + variance**0.5 * next(rest)
    return x


@pytest.mark.parametrize(
    "strategy",
    [
        ADM(scale=3.0, steps=4),
        ADM(scale=3.0, steps=4, base=Base.UNCONDITIONAL),
        ADM(scale=3.0, steps=4, variance=ReverseVariance.LEARNED),
        ADM(scale=3.0, steps=4, form=Form.DDIM),
        ADM(scale=3.0, steps=25, form=Form.DDIM, base=Base.UNCONDITIONAL),
    ],
    ids=["ancestral", "unconditional", "learned", "ddim", "ddim unconditional"],
)
@torch.no_grad()
def test_both_forms_are_the_papers(strategy: ADM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pixels, "decode", lambda _space, x, _shape: x)
    model = GuidedModel(lively(2 if strategy.variance is ReverseVariance.LEARNED else 1), classifier()).double()
    draws = Recorded(torch.arange(3))
    ours = strategy.sample(model, request(3, draws=draws))
    assert torch.allclose(ours, reference(model, strategy, torch.arange(3), draws.given), atol=1e-8, rtol=0)
    unguided = adm.ADM(scale=0.0, steps=strategy.steps, form=strategy.form, base=strategy.base, variance=strategy.variance)
    assert float((ours - unguided.sample(model, request(3, draws=Recorded(torch.arange(3))))).abs().max()) > 1e-3


CENTRES = torch.tensor([[-0.6, 0.3], [0.5, 0.5], [0.1, -0.8]], dtype=torch.float64)[:, None, :, None]  # (K, 1, 2, 1)
SPREAD = 0.04  # variance of each class


class Classes(ExactDenoiser):
    """Exact denoiser of class k of N(CENTRES[k], SPREAD), and of their even mixture where no label is given."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        gain = (SPREAD / (SPREAD + sigma**2))[:, None, None, None, None]
        of_class = CENTRES + gain * (x[:, None] - CENTRES)  # (B, K, 1, 2, 1)
        if labels is not None:
            return of_class[torch.arange(len(x)), labels]
        return (Posterior()(x, sigma).softmax(1)[:, :, None, None, None] * of_class).sum(1)


class Posterior(nn.Module):
    """Exact logits (B, K) of p(y | x)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -(x[:, None] - CENTRES).square().flatten(2).sum(2) / 2 / (SPREAD + sigma[:, None] ** 2)


@torch.no_grad()
def test_unconditional_score_guided_at_scale_one_is_the_conditional_score() -> None:
    x = torch.randn(60, 1, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, sigma = torch.arange(60) % 3, torch.logspace(-1.5, 2, 60, dtype=torch.float64)
    guided = NoiseShifted(Classes(), Posterior(), 1.0, given=None)(x, sigma, labels)
    assert torch.allclose(guided, Classes()(x, sigma, labels), atol=1e-9, rtol=0)
    assert not torch.allclose(guided, Classes()(x, sigma), atol=1e-2, rtol=0)


@torch.no_grad()
def test_guided_chain_of_the_mixture_ends_in_the_class() -> None:
    """Mean and variance of 600 images of each class, against those of the class, within four standard errors."""

    def reverse(x: Tensor, high: float, low: float) -> tuple[Tensor, float]:
        return Classes()(x, torch.full((len(x),), high, dtype=torch.float64)), forward_variance(high, low)

    labels, draws = torch.arange(1800) % 3, Recorded(torch.arange(1800))
    sigmas = leading(TABLE, 1000)
    out = mean_shifted(reverse, Posterior(), 1.0, start(draws, (1, 2, 1), sigmas[0]), sigmas, labels, draws)
    for k in range(3):
        error = (out[labels == k] - CENTRES[k]).squeeze()
        assert torch.allclose(error.mean(0), torch.zeros(2, dtype=torch.float64), atol=4 * (SPREAD / 600) ** 0.5)
        assert torch.allclose(error.var(0), torch.full((2,), SPREAD, dtype=torch.float64), rtol=4 * (2 / 600) ** 0.5)


@torch.no_grad()
def test_gradient_of_an_image_is_its_own() -> None:
    net = classifier().double()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma, labels = torch.tensor([0.1, 1.0, 5.0, 0.5], dtype=torch.float64), torch.tensor([3, 3, 0, 9])
    together = log_p_gradient(net, x, sigma, labels)
    alone = torch.cat([log_p_gradient(net, x[k : k + 1], sigma[k : k + 1], labels[k : k + 1]) for k in range(4)])
    assert torch.allclose(together, alone, atol=1e-12, rtol=0) and not together.requires_grad
    step = 1e-6 * torch.ones_like(x)
    above, below = (net(y, sigma).log_softmax(1)[torch.arange(4), labels] for y in (x + step, x - step))
    assert torch.allclose((above - below) / 2e-6, together.flatten(1).sum(1), rtol=1e-5)


def test_a_step_costs_the_network_and_twice_the_classifiers_trunk() -> None:
    """Each product on the way from x to the logits has one counterpart on the way back; the time's embedding has none."""
    model = GuidedModel(lively(1), classifier())
    x, t = torch.zeros(2, 1, 8, 8), torch.ones(2)
    shift = torch.zeros(2, 64)
    once = (
        network_flops(model.net, (x, t, t.long()))
        + network_flops(model.classifier, (x, t))
        + network_flops(model.classifier.trunk, (x, shift))
    )
    for form in Form:
        flops = trajectory_flops(lambda form=form: ADM(form=form, steps=3).sample(model, request(2)))  # type: ignore[misc]
        assert flops.per_image * 2 == 3 * once


@pytest.mark.parametrize("overrides", [*ADM.card.sweep[1:], {"form": "ddim", "base": "unconditional", "scale": 5.0}], ids=str)
def test_other_configurations_conform(overrides: dict[str, str]) -> None:
    subject = Subject("eds.guidance.adm", discover())
    subject.strategy = subject.registry.build("eds.guidance.adm", {**overrides, "steps": 6})
    for check in (
        checks.check_images,
        checks.check_deterministic,
        checks.check_batch_invariance,
        checks.check_shared_modules,
        checks.check_flops,
    ):
        check(subject)


@pytest.mark.parametrize("fields", [{"scale": -0.5}, {"steps": 0}, {"tuning_share": 0.0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ADM(**fields)  # type: ignore[arg-type]
