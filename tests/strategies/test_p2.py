"""P2: the weight as published, and at gamma 0 nothing changes, bit for bit."""

import pytest
import torch

from bench.cards import AssetName
from bench.testing.subject import tiny_assets
from strategies.eps.training.p2 import P2, p2_weight


def test_weight_falls_with_snr_and_limits_are_known() -> None:
    snr = torch.logspace(-4, 4, 50, dtype=torch.float64)
    weight = p2_weight(snr, k=1.0, gamma=1.0)
    assert bool((weight.diff() < 0).all())
    assert torch.allclose(p2_weight(snr, k=1e-12, gamma=1.0) * snr, torch.ones_like(snr))  # noise error / SNR is x0's error
    assert torch.equal(p2_weight(snr, k=1.0, gamma=0.0), torch.ones_like(snr))


def test_gamma_zero_trains_the_base_bit_for_bit() -> None:
    base = tiny_assets().get(AssetName.DENOISER).module
    ours = P2(gamma=0.0).fit(tiny_assets().kit_with(()))
    assert all(torch.equal(a, b) for a, b in zip(base.state_dict().values(), ours.state_dict().values(), strict=True))


def test_gamma_one_trains_another_network() -> None:
    base = tiny_assets().get(AssetName.DENOISER).module
    ours = P2(gamma=1.0).fit(tiny_assets().kit_with(()))
    assert any(not torch.equal(a, b) for a, b in zip(base.parameters(), ours.parameters(), strict=True))


@pytest.mark.parametrize("fields", [{"gamma": -1.0}, {"k": 0.0}, {"steps": 0}])
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        P2(**fields)  # type: ignore[arg-type]
