"""The reverse variance between its bounds: diffusers, torch.distributions, closed forms on Gaussian data, and its training."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from bench.cards import AssetName
from bench.diffusion.gaussian import forward_variance, posterior_variance
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.diffusion.solvers.reverse_variance import HybridDenoiser, bound_bits, chain, interpolated, log_bounds, smallest_variance
from bench.testing.subject import tiny_assets
from bench.training import hybrid
from bench.training.hybrid import hybrid_loss, widened
from strategies.eds.guidance.adm import ADM, ReverseVariance

TABLE = sigma_of(linear_alpha_bar())


@pytest.mark.parametrize(("high", "low"), [(TABLE[500], TABLE[480]), (TABLE[20], TABLE[0])])
def test_learned_variance_lies_between_its_bounds_as_in_diffusers(high: Tensor, low: Tensor) -> None:
    small, large = log_bounds(float(high), float(low), smallest_variance(TABLE))
    v = torch.tensor([-1.0, -0.3, 0.0, 0.5, 1.0], dtype=torch.float64)
    ours = interpolated(v, small, large)
    assert torch.allclose(ours[[0, -1]], torch.tensor([posterior_variance(high, low), forward_variance(high, low)], dtype=torch.float64))
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, variance_type="learned_range")
    steps = int((high == TABLE).nonzero()) - int((low == TABLE).nonzero())
    scheduler.set_timesteps(1000 // steps)
    theirs = scheduler._get_variance(int((high == TABLE).nonzero()), predicted_variance=v).exp()
    assert torch.allclose(ours / (1 + low**2), theirs.double(), rtol=1e-3)


def test_bound_terms_are_divergences_of_normals() -> None:
    x0 = torch.linspace(-0.9, 0.9, 12, dtype=torch.float64).reshape(3, 1, 2, 2)
    guess, v = x0 + 0.01 * torch.cos(5 * x0), torch.sin(9 * x0)
    rows = chain(TABLE)[[700, 3, 0]]
    got = bound_bits(x0, guess, v, rows)
    for k, (high, low, log_small, log_large) in enumerate(rows[:2].tolist()):
        x = x0[k] + high * 0.3
        means = [m + (low / high) ** 2 * (x - m) for m in (x0[k], guess[k])]
        assert log_small == pytest.approx(torch.tensor(posterior_variance(high, low)).log().item())
        share = (v[k] + 1) / 2
        exact, model = (
            Normal(means[0], posterior_variance(high, low) ** 0.5),
            Normal(means[1], (share * log_large + (1 - share) * log_small).exp().sqrt()),
        )
        assert float(got[k]) == pytest.approx(float(kl_divergence(exact, model).mean()) / 0.6931471805599453, rel=1e-9)
    _, _, log_small, log_large = rows[2].tolist()
    share = (v[2] + 1) / 2
    model = Normal(guess[2], (share * log_large + (1 - share) * log_small).exp().sqrt())
    mass = model.cdf(x0[2] + 1 / 255) - model.cdf(x0[2] - 1 / 255)
    assert float(got[2]) == pytest.approx(float(-mass.clamp_min(1e-12).log2().mean()), rel=1e-6)


def test_best_variance_of_gaussian_data_is_the_true_one() -> None:
    """Data N(0, 0.25) with the exact mean: the bound is stationary where the variance is beta~ + (1 - (low / high)^2)^2 Var[x0 | x]."""
    rows = chain(TABLE)[[5, 20, 60]]
    high, low, log_small, log_large = rows.T
    left = 0.25 * high**2 / (0.25 + high**2)
    true = log_small.exp() + (1 - (low / high) ** 2) ** 2 * left
    v = (2 * (true.log() - log_small) / (log_large - log_small) - 1).requires_grad_(True)
    assert bool((v.abs() < 1).all())
    error = left.sqrt()[:, None, None, None]  # enters squared
    terms = [bound_bits(error, 0 * error, (v + by)[:, None, None, None], rows).sum() for by in (-0.05, 0.0, 0.05)]
    slopes = [torch.autograd.grad(term, v)[0] for term in terms]
    assert bool((slopes[1].abs() < 1e-9).all()) and bool((slopes[0] < -1e-9).all()) and bool((slopes[2] > 1e-9).all())


def test_widened_network_predicts_as_before_and_its_bound_teaches_the_variance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kit, base = tiny_assets().kit_with(()), tiny_assets().get(AssetName.DENOISER).module
    wide = widened(base, kit)
    x, sigma = kit.images[:3].float() / 127.5 - 1, torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    x0, v = wide.heads(x, sigma, kit.labels[:3])
    assert torch.allclose(x0, base(x, sigma, kit.labels[:3]), atol=1e-5) and not v.any() and v.shape == x.shape

    def gradients(weight: float) -> dict[str, Tensor]:
        monkeypatch.setattr(hybrid, "BOUND_WEIGHT", weight)
        value = hybrid_loss(wide)(x, kit.labels[:3], torch.Generator().manual_seed(0))
        return {"bias": torch.autograd.grad(value, wide.net.head.bias)[0]}  # (2,): noise, v

    with_bound, without = gradients(0.001)["bias"], gradients(0.0)["bias"]
    assert torch.equal(with_bound[:1], without[:1]) and float(without[1]) == 0 and float(with_bound[1]) != 0


def test_tuning_moves_the_variance() -> None:
    strategy = ADM(variance=ReverseVariance.LEARNED, tuning_share=1.0)
    model = strategy.fit(tiny_assets().kit_with(strategy.card.assets))
    assert isinstance(model, HybridDenoiser) and not any(p.requires_grad for p in model.parameters())
    v = model.heads(torch.zeros(1, 1, 8, 8), torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.long))[1]
    assert bool(v.any())
