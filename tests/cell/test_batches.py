"""Batches halve when memory runs out, and the work is whole all the same."""

import pytest
import torch

from bench.harness.memory import Batches, out_of_memory

CPU = torch.device("cpu")
REAL = 2**62  # bytes that no machine has


def work_up_to(limit: int, error: Exception, tried: list[int]):  # type: ignore[no-untyped-def]
    def work(first: int, count: int) -> list[int]:
        tried.append(count)
        if count > limit:
            raise error
        return list(range(first, first + count))

    return work


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["python", "cuda"])
def test_halves_until_it_fits_and_stays_there(error: Exception) -> None:
    tried: list[int] = []
    batches = Batches(16, CPU)
    assert [k for part in batches.over(3, 22, work_up_to(5, error, tried)) for k in part] == list(range(3, 25))
    assert tried == [16, 8, 4, 4, 4, 4, 4, 2] and batches.size == 4


def test_torchs_own_error_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(REAL, dtype=torch.uint8)
    assert out_of_memory(caught.value) and not out_of_memory(RuntimeError("shapes differ"))


def test_a_single_image_that_does_not_fit() -> None:
    with pytest.raises(MemoryError, match="single image"):
        list(Batches(4, CPU).over(0, 4, work_up_to(0, MemoryError(), [])))


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"):
        list(Batches(4, CPU).over(0, 4, work_up_to(0, ValueError("mine"), [])))


def test_memory_is_free_again_before_the_next_try() -> None:
    """The frames of the failed batch, with their tensors, are gone."""
    alive: list[bool] = []

    class Held:
        def __del__(self) -> None:
            alive.remove(True)

    def work(first: int, count: int) -> int:
        assert alive == []
        alive.append(True)
        _held = Held()
        if count > 1:
            raise MemoryError
        return count

    assert list(Batches(4, CPU).over(0, 2, work)) == [1, 1]
