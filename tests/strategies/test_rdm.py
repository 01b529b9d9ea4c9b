"""Retrieval-augmented diffusion: without neighbours, with guidance, its price, and that images follow the database."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from bench.contract import Kit, Request
from bench.data.images import Pixels
from bench.diffusion.conditioning.retrieval import RetrievalModel
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.diffusion.draws import SeededDraws
from bench.meters.calls import counted
from bench.meters.flops import network_flops, trajectory_flops
from bench.meters.params import buffer_bytes
from bench.nets.context import ContextUNet
from bench.registry import discover
from bench.testing import checks
from bench.testing.subject import Subject
from strategies.eds.representation.ddim import DDIM
from strategies.eps.retrieval.rdm import RDM, Source, allowed
from tests.diffusion.test_retrieval import ENTRIES, WIDE, digits, retrieval_model, unit_rows
from tests.oracles import kit_of, request


@torch.no_grad()
def test_without_neighbours_it_is_the_unconditional_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """k = 0 is the sampler of the U-Net under the null label, bit for bit; so is scale 0, which asks the empty context alone."""
    model = retrieval_model()
    net = model.net
    assert isinstance(net, ContextUNet)
    nothing = request(4, labels=[10] * 4)
    alone = RDM(k=0, steps=5).sample(RetrievalModel(net.unet, None), request(4))
    assert torch.equal(alone, DDIM(steps=5, eta=1.0).sample(EpsDenoiser(net.unet), nothing))
    monkeypatch.setattr(Pixels, "decode", lambda _space, x, _shape: x)
    free = RDM(k=0, steps=5, eta=0.0).sample(RetrievalModel(net.unet, None), request(4))
    unguided = RDM(scale=0.0, steps=5, eta=0.0).sample(model, request(4))
    assert torch.allclose(unguided, free, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(RDM(steps=5, eta=0.0).sample(model, request(4)), free, atol=1e-2)


@torch.no_grad()
def test_guidance_extrapolates_from_the_empty_context() -> None:
    """eps(0) + s (eps(c) - eps(0)), the network called by hand on the neighbours of the queries."""
    model, asked, scale = retrieval_model(), request(3), 2.5
    net, database = model.net, model.database
    assert isinstance(net, ContextUNet) and database is not None
    denoiser, numbers = RDM(scale=scale).told(model, asked, SeededDraws(asked.seeds))
    x, sigma = unit_rows(3, 64).reshape(3, 1, 8, 8), torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64)
    uniform = SeededDraws(asked.seeds).uniform()
    x_t, t, _ = EpsDenoiser(net).scaled(x, sigma)
    for b, u in enumerate(uniform.tolist()):
        mine = [i for i, y in enumerate(database.labels.tolist()) if y == b]
        sums = list(itertools.accumulate(int(database.counts[i]) for i in mine))
        query = mine[next(i for i, s in enumerate(sums) if s > u * sums[-1])]
        found = (database.embeddings @ database.embeddings[query]).argsort(descending=True)[:4]
        assert found[0] == query
        context, null = database.encode(database.embeddings[found])[None], torch.tensor([10])
        told = net(x_t[b : b + 1], t[b : b + 1], null, context)
        free = net.unet(x_t[b : b + 1], t[b : b + 1], null)
        expected = x[b : b + 1] - float(sigma[b]) * (free + scale * (told - free))
        assert torch.allclose(denoiser(x, sigma, numbers)[b : b + 1], expected, atol=1e-4)


@torch.no_grad()
def test_one_search_an_image_and_one_evaluation_a_step() -> None:
    model = retrieval_model()
    for scale, rows in ((1.0, 12), (2.0, 24)):
        with counted(model, with_levels=True) as calls:
            RDM(scale=scale, steps=3).sample(model, request(4))
        assert dict(calls.rows) == {"database": 4, "net": rows} and calls.steps() == 3
    net, database = model.net, model.database
    assert database is not None
    once = network_flops(net, (torch.zeros(2, 1, 8, 8), torch.ones(2), torch.zeros(2).long(), torch.zeros(2, 4, 32)))
    search, encoding = 2 * 2 * ENTRIES * WIDE, 2 * 2 * 4 * WIDE * 32
    assert trajectory_flops(lambda: RDM(steps=3).sample(model, request(2))).per_image * 2 == 3 * once + search + encoding


def test_the_index_is_state_and_metered() -> None:
    model = retrieval_model()
    names = {"database.embeddings", "database.labels", "database.counts"}
    assert names <= set(model.state_dict()) and {name for name, _ in model.named_buffers()} == names
    assert buffer_bytes(model) == ENTRIES * (4 * WIDE + 8 + 8)
    assert buffer_bytes(RDM(k=0).fit(digits())) == 0


def toy() -> Kit:
    """Four classes of 8x8 images: one bright quadrant each, on noise."""
    labels, generator = torch.arange(240) % 4, torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (240, 1, 8, 8), generator=generator)
    for i, c in enumerate(labels.tolist()):
        images[i, 0, 4 * (c // 2) : 4 * (c // 2) + 4, 4 * (c % 2) : 4 * (c % 2) + 4] += 180
    return kit_of(images.byte(), labels, train_images=6_000, width=16)


def test_images_follow_the_database() -> None:
    """Trained for a moment, and without labels: neighbours bring the class asked for, and none that the database lacks."""
    model, asked = RDM(k=2).fit(toy()), request(80, labels=[0, 1, 2, 3] * 20)

    def histogram(source: Source, scale: float) -> Tensor:
        """Images of (class asked for, brightest quadrant)."""
        images = RDM(k=2, steps=10, eta=0.0, source=source, scale=scale).sample(model, asked)
        brightest = nn.functional.avg_pool2d(images.float(), 4).flatten(1).argmax(1)
        return (4 * asked.labels + brightest).bincount(minlength=16).reshape(4, 4)

    whole, lower, untold = histogram(Source.TRAINING, 2.0), histogram(Source.LOWER_CLASSES, 2.0), histogram(Source.TRAINING, 0.0)
    assert whole.diagonal().sum() >= 56  # of 80; 20 by chance
    assert lower[:, :2].sum() >= 64 and lower[:2].diagonal().sum() >= 28
    assert (whole.sum(0) >= 10).all() and untold.diagonal().sum() <= 32


def test_lower_classes_are_half_of_them() -> None:
    labels = torch.arange(10)
    assert allowed(Source.LOWER_CLASSES, labels, 10).tolist() == [True] * 5 + [False] * 5
    assert allowed(Source.TRAINING, labels, 10).all() and allowed(Source.LOWER_CLASSES, labels[:1], 1).all()


@torch.no_grad()
def test_an_image_alone_finds_the_same_neighbours() -> None:
    model = retrieval_model()

    def contexts(seeds: list[int]) -> Tensor:
        numbers = torch.tensor(seeds)
        asked = Request(seeds=numbers, labels=numbers % 10, shape=(1, 8, 8), device=torch.device("cpu"), draws=lambda: SeededDraws(numbers))
        guided, _ = RDM().told(model, asked, asked.draws())
        table: Tensor = guided.denoiser.net.table
        return table[:-1]

    together = contexts(list(range(30)))
    assert torch.allclose(together, torch.cat([contexts([k]) for k in range(30)]), atol=1e-6)
    assert len(together.flatten(1).round(decimals=4).unique(dim=0)) > 10


@pytest.mark.parametrize("overrides", [*RDM.card.sweep[1:], {"scale": 2.0, "top_m": 0.1}], ids=str)
def test_other_configurations_conform(overrides: dict[str, object]) -> None:
    subject = Subject("eps.retrieval.rdm", discover())
    subject.strategy = subject.registry.build("eps.retrieval.rdm", {**overrides, "steps": 5})  # type: ignore[dict-item]
    for check in (
        checks.check_images,
        checks.check_deterministic,
        checks.check_batch_invariance,
        checks.check_state_dict,
        checks.check_flops,
    ):
        check(subject)


@pytest.mark.parametrize(
    "fields",
    [
        {"k": -1},
        {"scale": -1.0},
        {"top_m": 0.0},
        {"top_m": 1.5},
        {"eta": 2.0},
        {"steps": 0},
        {"k": 0, "scale": 2.0},
        {"k": 0, "top_m": 0.5},
    ],
    ids=str,
)
def test_bad_hyper_parameters_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        RDM(**fields)  # type: ignore[arg-type]
