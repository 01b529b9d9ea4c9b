"""Features of a cell's shares: in the batches of the whole, used where they are whole, and extracted again where they are not."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.harness.cell.features import Extracted
from bench.harness.plan.cells import Options, plan
from bench.harness.run.messages import CellJob, Done, Setup, ShardJob
from bench.harness.run.worker import Workshop
from bench.measures import Measure
from bench.metrics.features import BATCH, Extractor, Features, Signature
from bench.records.store import Store, read_record
from bench.registry import discover
from bench.suites.suite import load
from bench.values import Cell, Status
from tests.conftest import TINY_SUITE
from tests.fakes import CPU

N = 5 * BATCH + 10


class Counting:
    """Features of an image: its number, and the place in its batch."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        number = images[:, 0, 0, 0].float()
        self.seen += [int(k) for k in number]
        return torch.stack([number, torch.arange(len(number)).float()], dim=1), number[:, None]


def extractor(network: Counting, weights: str = "w") -> Extractor:
    return Extractor(
        name="counting", signature=Signature(network="counting", weights=weights, resize="none", dtype="float32"), network=network
    )


IMAGES = torch.arange(N)[:, None, None, None].expand(-1, 1, 2, 2)
WHOLE = extractor(Counting())(IMAGES, CPU)


def same(found: Features) -> bool:
    assert found.logits is not None and WHOLE.logits is not None
    return torch.equal(found.pooled, WHOLE.pooled) and torch.equal(found.logits, WHOLE.logits)


def shared(folder: Path, *shares: tuple[int, int]) -> Extracted:
    """What slots leave that extract these shares (first, count)."""
    extracted = Extracted(folder)
    for first, count in shares:
        extracted.keep(extractor(Counting()), IMAGES[first : first + count], first, CPU)
    return extracted


@pytest.mark.parametrize(
    ("shares", "left"),
    [
        ((), N),
        (((0, 2 * BATCH), (2 * BATCH, BATCH)), N - 3 * BATCH),
        (((10, 2 * BATCH),), N - BATCH),  # only one batch lies in it whole
        (((BATCH, BATCH), (0, 3 * BATCH)), N - 3 * BATCH),  # of two that overlap, the first
        (((0, BATCH - 1), (BATCH + 1, BATCH)), N),
        (((0, N),), 10),
    ],
)
def test_shares_and_the_rest_are_the_whole(tmp_path: Path, shares: tuple[tuple[int, int], ...], left: int) -> None:
    extracted, network = shared(tmp_path, *shares), Counting()
    assert same(extracted.of(extractor(network), IMAGES, CPU)) and len(network.seen) == left


def test_other_images_and_other_extractors_have_other_features(tmp_path: Path) -> None:
    """Also where a single one of the images is another, as of a model that was trained again."""
    extracted, network = shared(tmp_path, (0, 2 * BATCH), (2 * BATCH, BATCH)), Counting()
    assert same(extracted.of(extractor(network, "v"), IMAGES, CPU)) and len(network.seen) == N
    changed, network = IMAGES.clone(), Counting()
    changed[2 * BATCH + 1] += 1
    found = extracted.of(extractor(network), changed, CPU)
    assert torch.equal(found.pooled, extractor(Counting())(changed, CPU).pooled) and network.seen[0] == 2 * BATCH


def test_truncated_features_are_extracted_again(tmp_path: Path) -> None:
    """At lengths from none to nearly all."""
    extracted = shared(tmp_path, (0, 2 * BATCH))
    [path] = tmp_path.iterdir()
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        network = Counting()
        assert same(extracted.of(extractor(network), IMAGES, CPU)) and len(network.seen) == N


def test_extractors_without_logits(tmp_path: Path) -> None:
    plain = dataclasses.replace(extractor(Counting()), network=lambda images: (images[:, 0, 0].float(), None))
    extracted = Extracted(tmp_path)
    extracted.keep(plain, IMAGES[:BATCH], 0, CPU)
    found = extracted.of(plain, IMAGES, CPU)
    assert found.logits is None and torch.equal(found.pooled, plain(IMAGES, CPU).pooled)


def scores(workshop: Workshop, store: Store, cell: Cell) -> dict[str, Measure]:
    assert workshop.do(CellJob(cell)) == Done(Status.OK)
    return read_record(store.record_path(cell.id)).scores


def test_a_worker_leaves_them_and_another_takes_them(tmp_path: Path) -> None:
    suite = TINY_SUITE.replace("n_samples = 16", f"n_samples = {3 * BATCH}").replace("batch_size = 8", "batch_size = 32")
    (tmp_path / "tiny.toml").write_text(suite)
    cell = plan(load(str(tmp_path / "tiny.toml")), discover(), Options(only=("control.gaussian",))).cells[0]
    store = Store(tmp_path / "store")
    workshop = Workshop(Setup(device="cpu", options=Options(), assets=tmp_path / "assets", store=store.folder), lambda _: None)
    alone = scores(workshop, store, cell)
    found = []
    for harm in (
        lambda path: None,
        lambda path: save_file({k: x + 1.0 for k, x in load_file(path).items()}, path),
        lambda path: path.write_bytes(b""),
    ):
        assert workshop.do(ShardJob(cell, 0, 2 * BATCH)) == Done(Status.OK)
        [path] = store.shard_folder(cell.id).glob("*.features")
        assert "-0000000-" in path.stem and load_file(path)["pooled"].shape == (2 * BATCH, 64)
        harm(path)
        found.append(scores(workshop, store, cell))
        assert not store.shard_folder(cell.id).exists()
    assert found[0] == found[2] == alone
    assert found[1]["fd_digits"] != alone["fd_digits"]  # what the file says counts
