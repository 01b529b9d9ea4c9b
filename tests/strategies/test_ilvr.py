"""ILVR: the low pass as a projection, its limits in factor and range, levels of the reference, and the conditional law of white data."""

import pytest
import torch
from torch import Tensor

from bench.contract import Denoiser
from bench.data.images import to_model
from bench.diffusion.conditioning.editing import chain, low_pass, refined
from bench.diffusion.denoisers.exact import ExactDenoiser, GaussianDenoiser
from bench.diffusion.grids import leading
from bench.diffusion.loops import start
from bench.diffusion.schedules import linear_alpha_bar, sigma_of
from bench.meters.calls import counted
from strategies.eds.representation.ilvr import ILVR
from strategies.eds.state_space.ddpm import DDPM
from tests.oracles import Recorded, denoiser, edit_request, request

SEEDS = torch.arange(3)
STEPS = 12
SIGMAS = leading(sigma_of(linear_alpha_bar()), STEPS)
PICTURES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


class Replayed:
    """Draws that were recorded before, in their order."""

    def __init__(self, given: list[Tensor]) -> None:
        self._rest = iter(given)

    def normal(self, *_shape: int) -> Tensor:
        return next(self._rest)

    uniform = normal


class Watched(ExactDenoiser):
    """A denoiser that keeps what it sees."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Tensor] = []
        self.told: list[Tensor | None] = []

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        self.seen.append(x)
        self.told.append(labels)
        out: Tensor = self.inner(x, sigma, labels)
        return out


def run(model: Denoiser, reference: Tensor, refinements: int, factor: int, draws: Recorded) -> Tensor:
    return refined(model, start(draws, (1, 8, 8), SIGMAS[0]), reference, SIGMAS, refinements, factor, None, draws)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_the_low_pass_is_an_orthogonal_projection(factor: int) -> None:
    """As a matrix: its own square, symmetric, of rank (8 / N)^2, and flat images pass."""
    matrix = low_pass(torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8), factor).reshape(64, 64)
    assert torch.allclose(matrix @ matrix, matrix, atol=1e-15) and torch.equal(matrix, matrix.T)
    assert float(matrix.trace()) == pytest.approx((8 / factor) ** 2)
    assert torch.allclose(matrix.sum(0), torch.ones(64, dtype=torch.float64))


def test_what_a_larger_factor_keeps_a_smaller_keeps_too() -> None:
    for small, large in ((1, 2), (2, 4), (4, 8)):
        assert torch.allclose(low_pass(low_pass(PICTURES, small), large), low_pass(PICTURES, large), atol=1e-15)
        assert torch.allclose(low_pass(low_pass(PICTURES, large), small), low_pass(PICTURES, large), atol=1e-15)


def test_the_low_pass_stops_fine_detail() -> None:
    checks = (-1.0) ** torch.arange(8)[:, None] * (-1.0) ** torch.arange(8)
    assert not low_pass(checks[None, None], 2).any()
    assert torch.allclose(low_pass(PICTURES, 8), PICTURES.mean((2, 3), keepdim=True).expand_as(PICTURES), atol=1e-15)


def test_a_factor_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="3 does not divide 8 x 8"):
        low_pass(PICTURES, 3)


@torch.no_grad()
def test_factor_one_returns_the_reference() -> None:
    """All of the state is replaced by the reference at its level, at last at level 0; without the last step noise of that level is left."""
    model, asked = denoiser(torch.float32), edit_request(4)
    assert torch.equal(ILVR(factor=1, steps=STEPS).sample(model, asked), asked.guides)
    trusting = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 1e6))
    nearly = ILVR(factor=1, range_t=1, steps=STEPS).sample(trusting, asked)
    assert not torch.equal(nearly, asked.guides)
    assert int((nearly.int() - asked.guides.int()).abs().max()) <= 6  # sigma = 0.01 at time 0, 1.3 grey levels


@torch.no_grad()
def test_the_largest_factor_controls_the_mean_alone() -> None:
    """References of one mean give the same images; of another mean, images that have it."""
    model = denoiser()
    flat = PICTURES.mean((2, 3), keepdim=True).expand_as(PICTURES)
    outs = [run(model, reference, STEPS, 8, Recorded(SEEDS)) for reference in (PICTURES, flat, flat + 0.3)]
    assert torch.allclose(outs[0], outs[1], atol=1e-9)
    for out, mean in ((outs[0], flat), (outs[2], flat + 0.3)):
        assert torch.allclose(out.mean((2, 3)), mean[..., 0, 0], atol=1e-12)


@pytest.mark.parametrize("range_t", [1000, 917])
@torch.no_grad()
def test_no_range_is_sampling_without_a_reference(range_t: int) -> None:
    """The highest of 12 times is 913, t = 914 of the paper: nothing is refined, and no draw is spent on it."""
    model, asked = denoiser(torch.float32), edit_request(4)
    free = DDPM(steps=STEPS).sample(model, request(4, labels=asked.labels.tolist()))
    assert torch.equal(ILVR(range_t=range_t, steps=STEPS).sample(model, asked), free)
    assert not torch.equal(ILVR(range_t=913, steps=STEPS).sample(model, asked), free)


@pytest.mark.parametrize("factor", [2, 4])
@torch.no_grad()
def test_every_state_has_the_references_low_frequencies_at_its_own_level(factor: int) -> None:
    """What the network sees at sigma is phi(y + sigma n) with the noise of that step, not that of the level above; the image has phi(y)."""
    model, draws = Watched(denoiser()), Recorded(SEEDS)
    out = run(model, PICTURES, STEPS, factor, draws)
    references = draws.given[2::2]  # the start, then in turn a step and a reference
    assert len(model.seen) == STEPS
    for x, sigma, noise in zip(model.seen[1:], SIGMAS[1:-1].tolist(), references, strict=True):
        assert torch.allclose(low_pass(x, factor), low_pass(PICTURES + sigma * noise, factor), atol=1e-12)
    assert torch.allclose(low_pass(out, factor), low_pass(PICTURES, factor), atol=1e-12)
    assert not torch.allclose(out, PICTURES, atol=0.1)


@torch.no_grad()
def test_steps_outside_the_range_are_left_alone() -> None:
    """The lower half of the chain is DDPM's, from the state that the upper half left."""
    model, draws = Watched(denoiser()), Recorded(SEEDS)
    out = run(model, PICTURES, STEPS // 2, 2, draws)
    rest = Replayed(draws.given[1 + STEPS :])
    assert torch.equal(chain(model.inner, model.seen[STEPS // 2], SIGMAS[STEPS // 2 :], None, rest), out)
    assert not torch.allclose(low_pass(out, 2), low_pass(PICTURES, 2), atol=1e-3)


@torch.no_grad()
def test_white_data_given_low_frequencies() -> None:
    """Pixels independent N(0, v): given phi(x0), the rest is what it would have been, so that it is DDPM's with the same noise."""
    model = GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.01)).double()  # so narrow that no x0 is clipped
    draws = Recorded(SEEDS)
    out = run(model, 0.3 * PICTURES, STEPS, 2, draws)
    first, *others = draws.given
    free = chain(model, first * float((1 + SIGMAS[0] ** 2) ** 0.5), SIGMAS, None, Replayed(others[::2]))
    assert torch.allclose(out - low_pass(out, 2), free - low_pass(free, 2), atol=1e-12)
    assert torch.allclose(low_pass(out, 2), low_pass(0.3 * PICTURES, 2), atol=1e-12)


@torch.no_grad()
def test_images_keep_the_means_of_the_guides_blocks() -> None:
    asked = edit_request(6)
    images = ILVR(factor=4, steps=STEPS).sample(GaussianDenoiser(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.01)), asked)
    wanted = low_pass(to_model(asked.guides), 4)
    inside = (low_pass(to_model(images), 4) - wanted).abs() < 0.02
    edge = wanted.abs() > 0.7  # where pixels would leave the range they are cut, and the mean moves
    assert bool((inside | edge).all()) and float(inside.float().mean()) > 0.5


@torch.no_grad()
def test_price_is_the_chains_and_the_references_class_is_told() -> None:
    model, asked = denoiser(torch.float32), edit_request(2)
    with counted(model) as calls:
        ILVR(factor=2, steps=STEPS).sample(model, asked)
    assert calls.per_image(2) == {"net": STEPS}
    watched = Watched(model)
    ILVR(factor=2, steps=3).sample(watched, asked)
    assert len(watched.told) == 3 and all(told is not None and torch.equal(told, asked.labels) for told in watched.told)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ILVR(factor=0), "factor must be 1 or more"),
        (lambda: ILVR(range_t=-1), "range_t must lie in"),
        (lambda: ILVR(range_t=1001), "range_t must lie in"),
        (lambda: ILVR(steps=0), "steps must be 1 or more"),
    ],
)
def test_bad_hyper_parameters_are_refused(build, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        build()
