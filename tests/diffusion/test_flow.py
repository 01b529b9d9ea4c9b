"""The likelihood of the probability flow against densities in closed form."""

import math

import pytest
import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.diffusion.denoisers.exact import GaussianDenoiser
from bench.diffusion.draws import SeededDraws
from bench.diffusion.gaussian import posterior_variance
from bench.diffusion.grids import leading, span
from bench.diffusion.likelihood import gaussian_bound
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.diffusion.solvers.flow import dequantised, discrete_nats, exact_trace, flow_likelihood, log_density, rademacher
from tests.oracles import Recorded
from tests.oracles import denoiser as unet_denoiser

WIDE = (0.01, 1e5)  # at 1e5 the data are lost in the prior's variance
SHAPES = [(1, 1, 2), (3, 4, 4), (3, 8, 8), (3, 16, 16)]


class CovariantDenoiser(Denoiser):
    """E[x0 | x] for images of N(mean, V diag(variances) V^T): mean + V diag(v / (v + sigma^2)) V^T (x - mean)."""

    def __init__(self, mean: Tensor, axes: Tensor, variances: Tensor) -> None:
        super().__init__()
        self.mean, self.axes, self.variances = mean, axes, variances

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        shrink = self.variances / (self.variances + sigma[:, None].square())
        inside = (x - self.mean).flatten(1) @ self.axes
        return self.mean + ((shrink * inside) @ self.axes.T).reshape(x.shape)

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        total = self.variances + sigma**2
        inside = (x - self.mean).flatten(1) @ self.axes
        return -0.5 * (inside.square() / total + (2 * math.pi * total).log()).sum(1)


class MixtureDenoiser(Denoiser):
    """E[x0 | x] for two round normals in two pixels: a flow that is not linear."""

    means = torch.tensor([[-0.3, 0.1], [0.25, -0.2]], dtype=torch.float64)
    variances = torch.tensor([0.01, 0.0225], dtype=torch.float64)
    shares = torch.tensor([0.4, 0.6], dtype=torch.float64)

    def joint(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x, component) (B, 2)."""
        total = self.variances + sigma[:, None].square()
        distance = (x.flatten(1)[:, None] - self.means).square().sum(-1)
        return self.shares.log() - distance / total / 2 - (2 * math.pi * total).log()

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        weights = self.joint(x, sigma).softmax(1)[..., None]
        shrink = (self.variances / (self.variances + sigma[:, None].square()))[..., None]
        guesses = self.means + shrink * (x.flatten(1)[:, None] - self.means)
        return (weights * guesses).sum(1).reshape(x.shape)


class UniformDenoiser(Denoiser):
    """E[x0 | x] for pixels uniform over the 256 bins of [-1 - 1/255, 1 + 1/255]: the mean of a truncated normal."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        s, edge = sigma[:, None, None, None], 256 / 255
        below, above = (-edge - x) / s, (edge - x) / s
        inside = torch.special.ndtr(above) - torch.special.ndtr(below)
        slope = ((-below.square() / 2).exp() - (-above.square() / 2).exp()) / (2 * math.pi) ** 0.5
        return x + s * slope / inside


class HardOrEasy(Denoiser):
    """Images labelled 0 are unit normal, which the flow leaves alone; those labelled 1 have a hundredth of that deviation."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        variance = torch.where(labels == 1, 1e-4, 1.0).double()
        return (variance / (variance + sigma.square()))[:, None, None, None] * x


def uneven(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Mean and variance (C, H, W) of pixels, all different."""
    draws = SeededDraws(torch.tensor([5]))
    return draws.uniform(*shape)[0].double() - 0.5, 0.02 + 0.3 * draws.uniform(*shape)[0].double().square()


def correlated(shape: tuple[int, int, int]) -> CovariantDenoiser:
    mean, variance = uneven(shape)
    axes = torch.linalg.qr(SeededDraws(torch.arange(mean.numel())).normal(mean.numel()).double()).Q
    return CovariantDenoiser(mean, axes, variance.flatten())


def images_of(mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Grey levels (B, C, H, W) in 0..255 of such pixels, and the same in [-1, 1]."""
    x = mean + variance.sqrt() * SeededDraws(torch.arange(count)).normal(*mean.shape).double()
    levels = ((x + 1) * 127.5).round().clamp(0, 255)
    return levels, levels / 127.5 - 1


def bits(nats: Tensor, shape: tuple[int, ...]) -> Tensor:
    return nats / math.prod(shape) / math.log(2)


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_flow_equals_the_density_of_the_dequantised_images(shape: tuple[int, int, int]) -> None:
    """End to end; the Jacobian is diagonal, so that one probe of signs is exact."""
    mean, variance = uneven(shape)
    levels, x0 = images_of(mean, variance, 16)
    draws = Recorded(torch.arange(16))
    found = flow_likelihood(GaussianDenoiser(mean, variance), x0, torch.zeros(16), draws, WIDE)
    point = (levels + draws.given[0] - 0.5) / 127.5 - 1
    total = variance + WIDE[0] ** 2
    log_p = -0.5 * ((point - mean).square() / total + (2 * math.pi * total).log()).flatten(1).sum(1)
    log_bins = math.prod(shape) * math.log(127.5)
    assert len(draws.given) == 2  # one dequantisation, one probe for the whole solution
    assert float(bits(found.nats - log_bins + log_p, shape).abs().max()) < 5e-5
    assert found.nats.dtype == torch.float64 and 50 < found.evaluations < 150


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_exact_trace_with_correlated_pixels(shape: tuple[int, int, int]) -> None:
    model = correlated(shape)
    x = dequantised(images_of(model.mean, torch.full(shape, 0.1), 8)[1], SeededDraws(torch.arange(8)))
    log_p, _ = log_density(model, x, torch.zeros(8), exact_trace, WIDE)
    assert float(bits(log_p - model.log_density(x, WIDE[0]), shape).abs().max()) < 5e-5


@torch.no_grad()
def test_prior_of_the_chain_ends_the_flow() -> None:
    """Over the schedule's own span the exact flow maps x linearly, and its end is judged by N(0, 1 + sigma^2), not by the data's law."""
    shape, (low, high) = (3, 4, 4), span(sigma_of(linear_alpha_bar()))
    assert (low, high) == (pytest.approx(0.0100005, rel=1e-5), pytest.approx(157.4, rel=1e-3))
    mean, variance = uneven(shape)
    x = images_of(mean, variance, 16)[1]
    log_p, _ = log_density(GaussianDenoiser(mean, variance), x, torch.zeros(16), exact_trace, (low, high))
    stretch = ((variance + high**2) / (variance + low**2)).sqrt()
    end, total = mean + stretch * (x - mean), 1 + high**2
    expected = (stretch.log() - 0.5 * (end.square() / total + math.log(2 * math.pi * total))).flatten(1).sum(1)
    assert float(bits(log_p - expected, shape).abs().max()) < 5e-5


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_hutchinson_within_three_standard_errors(shape: tuple[int, int, int]) -> None:
    model, count = correlated(shape), 64
    x = dequantised(images_of(model.mean, torch.full(shape, 0.1), count)[1], SeededDraws(torch.arange(count)))
    exact = model.log_density(x, WIDE[0])
    spread = []
    for probes in (1, 8):
        trace = rademacher(SeededDraws(torch.arange(count) + 1000), x, probes)
        error = bits(log_density(model, x, torch.zeros(count), trace, WIDE)[0] - exact, shape)
        standard_error = float(error.std()) / count**0.5
        assert standard_error > 1e-4 and abs(float(error.mean())) < 3 * standard_error
        spread.append(standard_error)
    assert spread[1] / spread[0] == pytest.approx(8**-0.5, rel=0.4)


@torch.no_grad()
def test_bound_lies_above_the_flow() -> None:
    """The variational bound of the thousand steps is above the flow's on the same images of the same exact model."""
    shape, count = (1, 4, 4), 200
    mean, variance = uneven(shape)
    model, x0 = GaussianDenoiser(mean, variance), images_of(mean, variance, count)[1]
    sigmas, labels = leading(sigma_of(linear_alpha_bar()), 1000), torch.zeros(count)
    bound = gaussian_bound(model, x0, sigmas, labels, SeededDraws(torch.arange(count)), posterior_variance, clip=False)
    flow = flow_likelihood(model, x0, labels, SeededDraws(torch.arange(count)), span(sigma_of(linear_alpha_bar())))
    gap = bits(bound - flow.nats, shape)
    assert float(gap.mean()) > 3 * float(gap.std()) / count**0.5


@torch.no_grad()
def test_eight_bits_for_a_model_uniform_over_the_bins() -> None:
    shape = (1, 2, 4)
    assert float(bits(discrete_nats(torch.tensor(8 * math.log(255 / 512)), 8), shape)) == pytest.approx(8, abs=1e-6)
    levels = torch.tensor([[20, 40, 80, 100, 127, 128, 200, 235]]).double().reshape(1, *shape)  # the ends are smoothed by the lowest noise
    draws = SeededDraws(torch.arange(1))
    found = flow_likelihood(UniformDenoiser(), levels / 127.5 - 1, torch.zeros(1), draws, WIDE, tolerance=1e-9)
    assert float(bits(found.nats, shape)) == pytest.approx(8, abs=1e-6)


@torch.no_grad()
def test_probabilities_of_all_images_of_two_pixels_sum_to_one() -> None:
    """The density at the middle of each bin times its area: for a smooth density the midpoint rule over 256 x 256 bins has no error."""
    model, grey = MixtureDenoiser(), torch.arange(256, dtype=torch.float64) / 127.5 - 1
    x = torch.cartesian_prod(grey, grey).reshape(-1, 1, 1, 2)
    expected = model.joint(x, torch.full((1,), WIDE[0], dtype=torch.float64)).logsumexp(1)
    likely = expected > expected.max() - 20
    assert float(expected[~likely].exp().sum()) / 127.5**2 < 1e-7
    log_p, _ = log_density(model, x[likely], torch.zeros(int(likely.sum())), exact_trace, WIDE, tolerance=1e-6)
    assert float(log_p.exp().sum()) / 127.5**2 == pytest.approx(1, abs=1e-6)
    assert float((log_p - expected[likely]).abs().max()) < 1e-4


@torch.no_grad()
def test_easy_images_excuse_no_hard_one() -> None:
    """An error norm averaged over the batch would let the hard image err seven times as much as it does alone."""
    shape, span, count = (1, 4, 4), (1e-4, 1e5), 1000
    x = SeededDraws(torch.arange(count)).normal(*shape).double()
    x[0] *= 0.01
    labels, total = (torch.arange(count) == 0).long(), 1e-4 + span[0] ** 2
    expected = -0.5 * float(x[0].square().sum() / total + 16 * math.log(2 * math.pi * total))
    alone, together = (abs(float(log_density(HardOrEasy(), x[:n], labels[:n], exact_trace, span)[0][0]) - expected) for n in (1, count))
    assert together < 1.5 * alone


@torch.no_grad()
def test_network_in_float32_alone_and_in_a_batch() -> None:
    """State in float64 whatever the network; the same value in any batch, up to the solver's error; no gradient is left behind."""
    x0, labels = (SeededDraws(torch.arange(3)).uniform(1, 8, 8) * 256).floor() / 127.5 - 1, torch.arange(3)
    single, double = unet_denoiser(torch.float32), unet_denoiser(torch.float64)

    def run(model: Denoiser, x: Tensor, chosen: list[int]) -> list[float]:
        found = flow_likelihood(model, x[chosen], labels[chosen], SeededDraws(labels[chosen]), (0.3, 3.0), tolerance=1e-4)
        assert found.nats.dtype == torch.float64 and not found.nats.requires_grad
        return bits(found.nats, (1, 8, 8)).tolist()

    together = run(single, x0, [0, 1, 2])
    assert run(single, x0, [1]) == pytest.approx(together[1:2], abs=0.01)
    assert run(double, x0.double(), [0, 1, 2]) == pytest.approx(together, abs=0.001)
    assert all(p.requires_grad and p.grad is None for p in single.parameters())


def test_denoiser_that_is_not_finite_is_told() -> None:
    nan = GaussianDenoiser(torch.full((1, 1, 2), math.nan).double(), torch.ones(1, 1, 2).double())
    with pytest.raises(ArithmeticError, match="not finite at sigma"):
        flow_likelihood(nan, torch.zeros(1, 1, 1, 2).double(), torch.zeros(1), SeededDraws(torch.arange(1)), WIDE)


def test_estimator_tells_how_it_was_had() -> None:
    model = GaussianDenoiser(*uneven((1, 1, 2)))
    found = flow_likelihood(model, torch.zeros(1, 1, 1, 2).double(), torch.zeros(1), SeededDraws(torch.arange(1)), WIDE, probes=2)
    assert found.probes == 2 and f"{found.evaluations} evaluations, Rademacher probes: 2, uniform dequantisation" in found.estimator


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.no_grad()
def test_same_likelihood_on_a_gpu() -> None:
    mean, variance = uneven((3, 4, 4))
    x0, seeds = images_of(mean, variance, 4)[1], torch.arange(4)
    here = flow_likelihood(GaussianDenoiser(mean, variance), x0, seeds, SeededDraws(seeds), WIDE).nats
    model, there = GaussianDenoiser(mean, variance).cuda(), seeds.cuda()
    assert flow_likelihood(model, x0.cuda(), there, SeededDraws(there), WIDE).nats.tolist() == pytest.approx(here.tolist(), abs=1e-3)
