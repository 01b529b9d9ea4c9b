"""Work in batches that become smaller once memory has run out: the results are the same, as each image depends on its own seed alone."""

import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


class Batches:
    """`size` is what is tried next; it halves whenever a batch does not fit."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self._device = size, device

    def over(self, first: int, count: int, work: Callable[[int, int], T]) -> Iterator[T]:
        """work(first, count) of consecutive batches. Raises MemoryError where not even a single image fits."""
        end = first + count
        while first < end:
            tried = min(self.size, end - first)
            done = self.attempt(work, first, tried)
            if done is not None:
                yield done
                first += tried
            elif tried == 1:
                raise MemoryError("not enough memory for a single image")
            else:
                self.size = tried // 2

    def attempt(self, work: Callable[[int, int], T], first: int, count: int) -> T | None:
        """One batch, or None where memory ran out, which is free again then."""
        try:
            return work(first, count)
        except Exception as error:
            if not out_of_memory(error):
                raise
        gc.collect()  # here the error has let go of the frames that hold tensors
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: CUDA's, Python's, or that of torch's allocator on a CPU (on Windows: `not enough`)."""
    said = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in said or "not enough memory" in said
