"""Retrieval: the index against brute force and scikit-learn, the proposal by its definition, what a context does."""

import itertools

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from bench.contract import Kit
from bench.diffusion.conditioning.retrieval import Database, RetrievalModel, embeddings, nearest, others, pick, proposal
from bench.diffusion.denoisers.parametrise import EpsDenoiser
from bench.nets.context import Conditioned, ContextUNet
from bench.nets.ema import frozen, seeded
from bench.testing.subject import tiny_assets
from bench.training import retrieval as training
from strategies.eps.retrieval import rdm
from strategies.eps.retrieval.rdm import RDM
from tests.oracles import lively_unet

ENTRIES, WIDE = 40, 12


def unit_rows(count: int, width: int, seed: int = 0) -> Tensor:
    return nn.functional.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def lively() -> ContextUNet:
    """The U-Net of the oracles with a cross-attention that does something."""
    with seeded(5):
        net = ContextUNet(lively_unet())
        for p in net.cross.out.parameters():
            nn.init.normal_(p, std=0.5)
    frozen(net)
    return net


def retrieval_model(k: int = 4) -> RetrievalModel:
    net = lively()
    with seeded(6):
        encode = nn.Linear(WIDE, 2 * net.channels, bias=False)
        nn.init.normal_(encode.weight)
    index = unit_rows(ENTRIES, WIDE)
    counts = others(index, k).flatten().bincount(minlength=ENTRIES)
    model = RetrievalModel(net, Database(encode, index, torch.arange(ENTRIES) % 10, counts, k))
    frozen(model)
    return model


def digits() -> Kit:
    return tiny_assets().kit_with(())


def test_embeddings_are_scikit_learns_components_of_one_length() -> None:
    images = digits().images
    theirs = torch.from_numpy(PCA(8, svd_solver="full").fit_transform(images.double().flatten(1) / 127.5 - 1))
    theirs = 8**0.5 * nn.functional.normalize(theirs)
    ours = embeddings(images, 8).double()
    assert torch.allclose(ours @ ours[:50].T, theirs @ theirs[:50].T, atol=1e-5)  # components are known up to their signs
    assert embeddings(images[:, :, :2, :2], 100).shape == (len(images), 64)  # padded to 8x8


def test_search_is_brute_force_and_scikit_learn() -> None:
    index = embeddings(digits().images, 32)
    queries, everything = index[:25] + 0.1 * unit_rows(25, 32), torch.ones(1, len(index), dtype=torch.bool)
    found = nearest(queries, index, 5, everything)
    assert torch.equal(found, torch.from_numpy(NearestNeighbors(n_neighbors=5, metric="cosine").fit(index).kneighbors(queries)[1]))
    for query, row in zip(queries[:3].double(), found[:3].tolist(), strict=True):
        products = [sum(a * b for a, b in zip(query.tolist(), entry, strict=True)) for entry in index.tolist()]
        assert row == sorted(range(len(index)), key=lambda i: -products[i])[:5]


def test_search_stays_among_the_allowed() -> None:
    index, even = unit_rows(ENTRIES, WIDE), torch.arange(ENTRIES) % 2 == 0
    theirs = NearestNeighbors(n_neighbors=3, metric="cosine").fit(index[even]).kneighbors(index[:7])[1]
    assert torch.equal(nearest(index[:7], index, 3, even[None]), 2 * torch.from_numpy(theirs))


def test_no_training_image_is_told_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table that training reads holds for each image the k of scikit-learn's k + 1 neighbours that are not itself, then nothing."""
    kit, k = digits(), 3
    seen: dict[str, object] = {}

    def spy(learner: EpsDenoiser, _loss: object, given: Kit, **_rest: object) -> EpsDenoiser:
        seen.update(table=learner.net.table, numbers=given.labels, images=given.images)
        return learner

    monkeypatch.setattr(training, "train", spy)
    model = RDM(k=k).fit(kit)
    index, table, count = embeddings(kit.images, rdm.DIMENSIONS), seen["table"], len(kit.images)
    assert isinstance(table, Tensor) and table.shape == (count + 1, k, rdm.DIMENSIONS) and not table[count].any()
    assert torch.equal(seen["numbers"], torch.arange(count)) and seen["images"] is kit.images  # type: ignore[arg-type]
    theirs = torch.from_numpy(NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(index).kneighbors(index)[1])
    assert torch.equal(theirs[:, 0], torch.arange(count))
    assert torch.equal(table[:count], index[theirs[:, 1:]])
    assert model.database is not None
    counts = theirs[:, 1:].flatten().bincount(minlength=count)
    order = counts.argsort(descending=True, stable=True)
    for ours, given in ((model.database.counts, counts), (model.database.embeddings, index), (model.database.labels, kit.labels)):
        assert torch.equal(ours, given[order])
    assert not model.database.encode(torch.zeros(1, rdm.DIMENSIONS)).any()


def test_a_twin_is_another_image() -> None:
    index = unit_rows(6, WIDE)[[0, 1, 2, 1, 4, 5]]
    assert others(index, 1)[1] == 3 and others(index, 1)[3] == 1


def test_proposal_is_its_definition() -> None:
    """p_D(y) = |{x: y in xi_k(x)}| / (k |X|) by counting, restricted to a class, cut to its most likely share."""
    k, index, labels = 4, unit_rows(ENTRIES, WIDE), torch.arange(ENTRIES) % 3
    found = others(index, k)
    served = [sum(y in found[x].tolist() for x in range(ENTRIES)) for y in range(ENTRIES)]
    counts = torch.tensor(served)
    order = counts.argsort(descending=True, stable=True)
    for top_m, c in itertools.product((1.0, 0.5, 0.01), range(3)):
        mine = sorted((n for n, y in zip(served, labels.tolist(), strict=True) if y == c and n > 0), reverse=True)
        kept = mine[: max(1, -(-len(mine) * int(100 * top_m) // 100))]
        steps = proposal(counts[order], labels[order], 3, top_m)[c].diff(prepend=torch.zeros(1, dtype=torch.float64))
        assert steps[steps > 0].tolist() == kept
        assert (labels[order][steps > 0] == c).all()
    assert sum(served) == k * ENTRIES


def test_a_class_without_entries_has_the_whole_database() -> None:
    counts, labels = torch.tensor([3, 2, 1, 0]), torch.tensor([0, 2, 0, 2])
    table = proposal(counts, labels, 3, 1.0)
    assert table.tolist() == [[3, 3, 4, 4], [3, 5, 6, 6], [0, 2, 2, 2]]


def test_picks_follow_the_weights_and_never_the_weightless() -> None:
    cumulative = torch.tensor([0.0, 2.0, 2.0, 5.0, 5.0]).double()
    uniform = torch.arange(1000) / 1000
    picked = pick(cumulative.expand(1000, 5), uniform)
    assert picked.bincount(minlength=5).tolist() == [0, 400, 0, 600, 0]
    assert pick(cumulative[None], torch.tensor([1 - 2**-24])).item() == 3


@torch.no_grad()
def test_a_context_of_zeros_is_the_unet_exactly() -> None:
    net = lively()
    x, t, labels = unit_rows(3, 64).reshape(3, 1, 8, 8), torch.tensor([1.0, 500.0, 999.0]), torch.tensor([10, 3, 10])
    alone = net.unet(x, t, labels)
    assert torch.equal(net(x, t, labels, torch.zeros(3, 4, 2 * net.channels)), alone)
    assert not torch.allclose(net(x, t, labels, torch.ones(3, 4, 2 * net.channels)), alone, atol=1e-3)


@torch.no_grad()
def test_cross_attention_is_softmax_of_queries_and_keys() -> None:
    net = lively().double()
    h = unit_rows(2, 16 * 16).double().reshape(2, 16, 4, 4)
    context = unit_rows(2, 3 * 32, seed=1).double().reshape(2, 3, 32)
    q = net.cross.query(net.cross.norm(h)).flatten(2)  # (B, C, positions), one head
    weights = torch.einsum("bcp,bkc->bpk", q, context[..., :16]).div(4).softmax(-1)
    expected = torch.einsum("oc,bpk,bkc->bop", net.cross.out.weight[:, :, 0, 0], weights, context[..., 16:])
    assert torch.allclose(net.cross(h, context), h + expected.reshape(h.shape), atol=1e-12)


@torch.no_grad()
def test_order_of_the_neighbours_is_nothing() -> None:
    net, numbers = lively().double(), torch.zeros(1, dtype=torch.long)
    x, t = unit_rows(1, 64).double().reshape(1, 1, 8, 8), torch.tensor([300.0]).double()
    table = unit_rows(4, 2 * net.channels).double()[None]
    first = Conditioned(net, nn.Identity(), table)(x, t, numbers)
    for order in itertools.permutations(range(4)):
        assert torch.allclose(Conditioned(net, nn.Identity(), table[:, order])(x, t, numbers), first, atol=1e-10, rtol=0)
    assert not torch.allclose(Conditioned(net, nn.Identity(), table[:, :3])(x, t, numbers), first, atol=1e-4)
