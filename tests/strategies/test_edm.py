"""EDM's scales and loss against their moments, its likelihood against a closed form; both strategies from start to image."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from bench.data.images import to_model
from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.denoisers.precondition import PreconditionedDenoiser, data_deviation
from bench.diffusion.draws import SeededDraws
from bench.diffusion.grids import rho_levels, span
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from strategies.eps.scheduling.edm import EDM, denoising_loss
from strategies.eps.scheduling.edm_sampler import EDMSampler
from tests.oracles import Recorded, denoiser, lively_unet, request

SEEDS = torch.arange(3)
LABELS = torch.tensor([1, 5, 9])
VARIANCE = 0.25  # of the Gaussian data N(0, 0.25)


def noise(sigma: float) -> Tensor:
    return sigma * SeededDraws(SEEDS).normal(1, 8, 8).double()


def preconditioned(sigma_data: float = 0.7) -> PreconditionedDenoiser:
    return PreconditionedDenoiser(lively_unet().double(), torch.tensor(sigma_data, dtype=torch.float64))


@torch.no_grad()
def test_no_noise_is_the_identity() -> None:
    x = noise(1.0)
    for sigma in (1e-6, 1e-3):
        apart = (preconditioned()(x, torch.full((3,), sigma, dtype=torch.float64), LABELS) - x).abs().max()
        assert 0 < float(apart) < 20 * sigma


class Spy(torch.nn.Module):
    """Keeps what it is given, and knows nothing."""

    answer = 0.0

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        self.x, self.t = x, t
        return torch.full_like(x, self.answer)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0, 50.0])
def test_input_and_target_have_unit_variance(sigma: float) -> None:
    """Data of standard deviation 0.7 around 0.3; a standard error of a variance of 81920 numbers is 0.5 %."""
    draws, spy = SeededDraws(torch.arange(1280)), Spy()
    model = PreconditionedDenoiser(spy, torch.tensor(0.7, dtype=torch.float64))
    levels = torch.full((1280,), sigma, dtype=torch.float64)
    x0 = 0.3 + 0.7 * draws.normal(1, 8, 8).double()
    x = x0 + sigma * draws.normal(1, 8, 8).double()
    guess, spy.answer = model(x, levels, None), 1.0
    c_out = model(x, levels, None) - guess
    target = (x0 - guess) / c_out
    assert float(spy.x.var()) == pytest.approx(1, rel=0.03) and float(target.var()) == pytest.approx(1, rel=0.03)
    assert torch.allclose(model.weight(levels)[:, None, None, None] * c_out.square(), torch.ones_like(c_out), atol=1e-6)
    assert float(spy.t[0]) == pytest.approx(math.log(sigma) / 4)


def test_deviation_of_the_data() -> None:
    images = (SeededDraws(torch.arange(11)).uniform(3, 5, 8) * 200).byte()
    assert float(data_deviation(images, part=4)) == pytest.approx(float(to_model(images).double().std(correction=0)), rel=1e-6)


def test_loss_begins_at_one_over_the_papers_levels() -> None:
    """For data of mean 0 an ignorant network has the loss 1 at every level, and log sigma is N(-1.2, 1.2^2)."""
    images = 0.5 * SeededDraws(torch.arange(4096)).normal(1, 4, 4)
    spy = Spy()
    model = PreconditionedDenoiser(spy, torch.tensor(0.5, dtype=torch.float64))
    loss = denoising_loss(model, p_mean=-1.2, p_std=1.2)(images, torch.zeros(4096).long(), torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(1, rel=0.02)
    assert float(4 * spy.t.mean()) == pytest.approx(-1.2, abs=0.06) and float(4 * spy.t.std()) == pytest.approx(1.2, rel=0.04)


@pytest.mark.parametrize("strategy", [EDM(steps=6), EDM(steps=6, s_churn=40.0), EDMSampler(steps=6), EDMSampler(steps=6, s_churn=0.0)])
@torch.no_grad()
def test_evaluations_labels_and_draws(strategy: EDM | EDMSampler) -> None:
    """2 N - 1 evaluations; a draw for the start and for every level that is raised, and no more."""
    model = preconditioned().float() if isinstance(strategy, EDM) else denoiser(torch.float32)
    draws, churn = Recorded(SEEDS), strategy.churn()
    with counted(model) as calls:
        images = strategy.sample(model, request(3))  # type: ignore[arg-type]
    assert calls.rows["net"] == 3 * 11
    assert not torch.equal(images, strategy.sample(model, request(3, labels=[3, 4, 5])))  # type: ignore[arg-type]
    strategy.sample(model.double(), request(3, draws=draws))  # type: ignore[arg-type]
    levels = rho_levels(strategy.steps, float(model.sigmas[0]), strategy.sigma_max, strategy.rho).tolist()
    assert len(draws.given) == 1 + sum(churn.low <= s <= churn.high for s in levels if churn.amount > 0)


@pytest.mark.parametrize("strategy", [EDM(steps=50), EDM(steps=50, s_churn=7.0), EDMSampler(steps=50), EDMSampler(steps=50, s_churn=0.0)])
@torch.no_grad()
def test_samples_have_the_variance_of_the_data(strategy: EDM | EDMSampler) -> None:
    """Data N(0, 0.04), few of which leave [-1, 1]; a standard error of a deviation of 8192 numbers is 0.8 %."""
    images = strategy.sample(GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.04)), request(128))  # type: ignore[arg-type]
    assert float(images.double().std() / 127.5) == pytest.approx(0.2, rel=0.1)


@torch.no_grad()
def test_levels_stay_within_the_table_of_the_shared_network() -> None:
    seen: list[float] = []

    class Watched(GaussianDenoiser):
        def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
            seen.append(float(sigma[0]))
            return super().forward(x, sigma, labels)

    model = Watched(torch.zeros(1, 1, 1), torch.full((1, 1, 1), VARIANCE))
    EDMSampler(steps=18, sigma_max=110.0, s_max=200.0).sample(model, request(2))
    low, high = span(sigma_of(linear_alpha_bar()))
    assert min(seen) >= low * (1 - 1e-9) and 150 < max(seen) <= high


@torch.no_grad()
def test_likelihood_equals_the_density_of_the_flow() -> None:
    """The exact flow is linear and its end is judged by the prior; the dequantisation is recorded."""
    asked, images = Recorded(torch.arange(4)), (118 + SeededDraws(torch.arange(4)).uniform(1, 8, 8) * 20).byte()
    variance, low, high = 5e-4, 0.01, 80.0
    narrow = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), variance))
    bits = EDM().bits_per_dim(narrow, images, request(4, draws=asked))  # type: ignore[arg-type]
    point = (images + asked.given[0] - 0.5) / 127.5 - 1
    stretch, total = math.sqrt((variance + high**2) / (variance + low**2)), 1 + high**2
    log_p = (math.log(stretch) - 0.5 * ((stretch * point).square() / total + math.log(2 * math.pi * total))).flatten(1).sum(1)
    expected = (64 * math.log(127.5) - log_p) / (64 * math.log(2))
    assert torch.allclose(bits, expected, atol=5e-3, rtol=0) and float(expected.std()) > 0.01


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_same_images_on_a_gpu() -> None:
    there = torch.arange(4).cuda()
    asked = dataclasses.replace(request(4), seeds=there, labels=there, device=there.device, draws=lambda: SeededDraws(there))
    for strategy, model in ((EDM(steps=6, s_churn=9.0), preconditioned().float()), (EDMSampler(steps=6), denoiser(torch.float32))):
        images = strategy.sample(model, request(4)).int()  # type: ignore[arg-type]
        moved = strategy.sample(model.cuda(), asked).cpu().int()  # type: ignore[arg-type]
        assert float(((moved - images).abs() <= 1).double().mean()) > 0.99


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 1},
        {"steps": 2000},
        {"sigma_max": -1.0},
        {"sigma_max": math.inf},
        {"rho": 0.0},
        {"s_churn": -1.0},
        {"s_churn": math.nan},
        {"s_min": 2.0, "s_max": 1.0},
        {"s_noise": 0.0},
    ],
)
def test_bad_hyper_parameters_are_refused(bad: dict[str, float]) -> None:
    for strategy in (EDM, EDMSampler):
        with pytest.raises(ValueError, match="must"):
            strategy(**bad)  # type: ignore[arg-type]


def test_levels_beyond_the_shared_network_and_a_fixed_training_level_are_refused() -> None:
    for bad in ({"sigma_max": 162.0}, {"sigma_max": 120.0, "s_max": 200.0}):
        with pytest.raises(RuntimeError, match="outside of those that the network was trained on"):
            EDMSampler(**bad).sample(denoiser(torch.float32), request(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sigma_min must lie inside"):
        EDMSampler(sigma_max=0.001).sample(denoiser(torch.float32), request(1))
    with pytest.raises(ValueError, match="sigma_min must lie inside"):
        EDM(sigma_max=0.001)
    with pytest.raises(ValueError, match="p_std must"):
        EDM(p_std=0.0)
