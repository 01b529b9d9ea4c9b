"""Shards: written rarely, read whole or not at all, and only for the weights they were drawn with."""

from pathlib import Path

import pytest
import torch

from bench.harness.cell.shards import Shard, Shards, Taken, drawn_whole, gaps


def shard(first: int, count: int) -> Shard:
    images = torch.arange(count * 4, dtype=torch.uint8).reshape(count, 1, 2, 2) + first
    return Shard(first=first, images=images, taken=Taken(seconds=0.5, rows={"net": 3 * count}, calls={"net": 3}))


def kept(folder: Path, weights: str = "w", every_s: float = 0.0) -> Shards:
    return Shards(folder, lambda: weights, every_s)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    shards = kept(tmp_path / "cell")
    shards.add(shard(8, 4))
    shards.add(shard(0, 8))
    found = kept(tmp_path / "cell").found()
    assert list(found) == [0, 8]
    assert torch.equal(found[8].images, shard(8, 4).images) and found[8].taken == shard(8, 4).taken


def test_nothing_is_written_before_its_time(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "cell", lambda: pytest.fail("the weights were hashed"), every_s=60.0)
    shards.add(shard(0, 8))
    assert shards.found() == {} and not (tmp_path / "cell").exists()


def test_other_weights_have_other_shards(tmp_path: Path) -> None:
    kept(tmp_path).add(shard(0, 8))
    assert kept(tmp_path, "v").found() == {} and list(kept(tmp_path).found()) == [0]


def test_overlapping_shards_count_once(tmp_path: Path) -> None:
    for part in (shard(0, 8), shard(4, 4), shard(8, 2)):
        kept(tmp_path).add(part)
    assert [(s.first, s.count) for s in kept(tmp_path).found().values()] == [(0, 8), (8, 2)]


def test_a_share_is_whole_with_all_its_shards(tmp_path: Path) -> None:
    """Of one model's weights."""
    for part, weights, whole in (
        (shard(8, 4), "w", False),
        (shard(12, 2), "v", False),
        (shard(14, 4), "w", False),
        (shard(12, 2), "w", True),
    ):
        kept(tmp_path, weights).add(part)
        assert drawn_whole(tmp_path, 8, 10) is whole, part.first
    assert drawn_whole(tmp_path, 9, 5) and not drawn_whole(tmp_path, 7, 5) and not drawn_whole(tmp_path / "none", 8, 1)


def test_a_truncated_shard_is_drawn_again(tmp_path: Path) -> None:
    """At every length."""
    kept(tmp_path).add(shard(0, 2))
    [path] = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert kept(tmp_path).found() == {}, length
    path.write_bytes(whole)
    assert list(kept(tmp_path).found()) == [0]


@pytest.mark.parametrize(
    ("there", "missing"),
    [([], [(0, 10)]), ([(0, 10)], []), ([(0, 4)], [(4, 6)]), ([(4, 2)], [(0, 4), (6, 4)]), ([(6, 4), (0, 2)], [(2, 4)])],
)
def test_gaps(there: list[tuple[int, int]], missing: list[tuple[int, int]]) -> None:
    assert gaps([shard(first, count) for first, count in there], 10) == missing
