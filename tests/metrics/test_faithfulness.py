"""Nearness to a target: PSNR and SSIM against loops written from the definitions, intervals against repeated experiments."""

import numpy as np
import torch

from bench.metrics.faithfulness import WINDOW, averaged, feature_distance, psnr, ssim


def pairs(seed: int, channels: int = 1, side: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (5, channels, side, side), generator=generator)
    noise = torch.randint(-40, 41, x.shape, generator=generator)
    return x.byte(), (x + noise).clamp(0, 255).byte()


def test_psnr_is_the_definition_and_is_bounded_by_rounding() -> None:
    x, y = pairs(0)
    for one, other, found in zip(x.numpy().astype(float), y.numpy().astype(float), psnr(x, y).tolist()):
        assert abs(found - 20 * np.log10(255 / np.sqrt(np.mean((one - other) ** 2)))) < 1e-9
    assert torch.allclose(psnr(x, x), torch.full((5,), 58.92, dtype=torch.float64), atol=0.01)
    clip = torch.stack([x, y], dim=1)
    assert torch.allclose(psnr(clip, clip.flip(1)), psnr(x, y))  # of a clip over all its frames: here the same error twice


def test_ssim_is_the_definition_window_by_window() -> None:
    x, y = pairs(1, channels=3)
    found = ssim(x, y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    for k in range(len(x)):
        values = []
        for channel in range(3):
            for top in range(10 - WINDOW + 1):
                for left in range(10 - WINDOW + 1):
                    window = slice(top, top + WINDOW), slice(left, left + WINDOW)
                    a, b = (v[k, channel].numpy().astype(float)[window].ravel() for v in (x, y))
                    cov = np.cov(a, b)
                    light = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
                    values.append(light * (2 * cov[0, 1] + c2) / (cov[0, 0] + cov[1, 1] + c2))
        assert abs(float(found[k]) - np.mean(values)) < 1e-9
    assert torch.allclose(ssim(x, x), torch.ones(5, dtype=torch.float64))


def test_unrelated_images_are_one_apart_in_features_and_the_same_zero() -> None:
    real = torch.randn(4000, 16, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.1, 3, 16)
    spread = float(torch.cov(real.double().T).trace())
    apart = feature_distance(real[:2000], real[2000:], spread)
    assert abs(float(apart.square().mean()) ** 0.5 - 1) < 0.03
    assert float(feature_distance(real, real, spread).max()) == 0


def test_interval_knows_that_images_of_one_original_are_alike() -> None:
    """400 experiments with 60 originals, each three times: the interval holds the truth in about 95 %, the usual one does not."""
    generator = torch.Generator().manual_seed(3)
    originals = torch.arange(180) % 60
    held, naive = 0, 0
    for _ in range(400):
        values = torch.randn(60, generator=generator)[originals].double() + 0.1 * torch.randn(180, generator=generator)
        found = averaged(values, originals, "test")
        assert found.low is not None and found.high is not None and found.replicates is not None and len(found.replicates) == 20
        held += found.low <= 0 <= found.high
        naive += abs(float(values.mean())) <= 1.97 * float(values.std()) / 180**0.5
    assert 0.92 <= held / 400 <= 0.98, held / 400
    assert naive / 400 < 0.85, naive / 400
