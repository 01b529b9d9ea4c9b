"""The variational bound of the thousand-step chain: 128 sampled terms against all of them, at an equal standard error of the mean.

A standard error of s takes (sd / s)^2 images: the costs compare as the product of time an image and variance over images does.
"""

import dataclasses

import pytest
import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.data.images import to_model
from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading
from bench.diffusion.likelihood import TERMS, bits_per_dim, gaussian_bound
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from bench.testing.subject import tiny_assets
from bench.training.recipes.denoiser import build_denoiser, fit_denoiser
from tests.performance.ratios import compare

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPE, STEPS, TARGET = (1, 8, 8), 1000, 0.02  # TARGET: bits/dim
SIGMAS = leading(sigma_of(linear_alpha_bar()), STEPS)


def bits(model: Denoiser, x0: Tensor, labels: Tensor, terms: int) -> Tensor:
    draws = SeededDraws(torch.arange(len(x0), device=x0.device))
    nats = gaussian_bound(model, x0, SIGMAS, labels, draws, posterior_variance, clip=True, terms=terms)
    return bits_per_dim(nats, SHAPE)


def variance_ratio(name: str, model: Denoiser, x0: Tensor, labels: Tensor) -> float:
    """Print what both need for the target; variance over images of the sampled bound over that of the full sum."""
    sampled, full = (bits(model, x0, labels, terms) for terms in (TERMS, STEPS))
    for kind, values in (("sampled", sampled), ("full", full)):
        sd = float(values.std())
        print(
            f"\n{name}, {kind}: {float(values.mean()):.3f} bits/dim, sd {sd:.3f}, SE {sd / len(x0) ** 0.5:.4f} with {len(x0)} images; ",
            end="",
        )
        print(f"{(sd / TARGET) ** 2:.0f} images for {TARGET}", end="")
    return float(sampled.var() / full.var())


@pytest.mark.timeout(600)
def test_sampled_bound_against_the_full_sum() -> None:
    kit = tiny_assets().kit_with((), 0)
    kit = dataclasses.replace(kit, device=DEVICE, images=kit.images.to(DEVICE), labels=kit.labels.to(DEVICE))
    kit = dataclasses.replace(kit, budget=dataclasses.replace(kit.budget, train_images=30_000, train_batch=128, width=16))
    model = fit_denoiser(build_denoiser(kit), kit, "digits denoiser").eval()
    x0, labels = to_model(kit.images[:32]), kit.labels[:32]
    with torch.no_grad():
        name = f"variational bound of {STEPS} steps, {TERMS} terms against all, U-Net on digits, {DEVICE}"
        speed = compare(name, lambda: bits(model, x0, labels, TERMS), lambda: bits(model, x0, labels, STEPS), DEVICE, "-").ratio
        evaluations = []
        for terms in (TERMS, STEPS):
            with counted(model) as calls:
                bits(model, x0, labels, terms)
            evaluations.append(sum(calls.rows.values()) / len(x0))
        digits = variance_ratio("U-Net on digits", model, to_model(kit.images[-128:]), kit.labels[-128:])
        gaussian = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.04)).to(DEVICE)
        noise = 0.2 * SeededDraws(torch.arange(512, device=DEVICE)).normal(*SHAPE)
        grey = ((noise + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
        exact = variance_ratio("exact denoiser of normal pixels", gaussian, grey, torch.zeros(512, device=DEVICE))
    print(f"\nevaluations an image: {evaluations[0]:g} against {evaluations[1]:g}, ratio {evaluations[0] / evaluations[1]:.3f}")
    for what, variances in (("U-Net on digits", digits), ("exact denoiser", exact)):
        print(f"cost to reach an equal standard error, {what}: {variances / speed:.3f}x; goal at most 0.2x")
    assert evaluations == [TERMS + 1, STEPS]
    assert max(digits, exact) / speed < 0.5
