"""Drawing: every image once, then on until the energy's window is complete; and the search for the best batch."""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.harness.cell.execute import evaluations_ratio
from bench.harness.cell.sampling import TRIALS, Trials, best_batch, draw_all, draw_some
from bench.harness.cell.shards import Shards, gaps
from bench.meters.energy.carbon import WORLD
from bench.values import Cell
from tests.made_records import made_cell

CPU = torch.device("cpu")
NONE_KEPT = Shards(Path("/nowhere"), lambda: "weights", every_s=math.inf)


def cell(**budget: float) -> Cell:
    made = made_cell("control.gaussian")
    return dataclasses.replace(made, budget=dataclasses.replace(made.budget, **budget))


class Painter:
    """Image k is k everywhere; the network is called once for each batch, and what is asked for takes its time."""

    def __init__(self) -> None:
        self.model = nn.ModuleDict({"net": nn.Linear(1, 1)})
        self.images = 0

    def __call__(self, first: int, count: int) -> Callable[[], Tensor]:
        time.sleep(0.05)
        return partial(self.sample, first, count)

    def sample(self, first: int, count: int) -> Tensor:
        self.images += count
        self.model["net"](torch.zeros(count, 1))
        return torch.arange(first, first + count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)


def test_a_share_goes_on_where_it_was_left(tmp_path: Path) -> None:
    painter, shards = Painter(), Shards(tmp_path, lambda: "weights", every_s=0)
    for first, count in ((16, 16), (0, 48), (40, 24)):
        images = draw_some(painter, painter.model, cell(n_samples=64, batch_size=16), CPU, lambda *_: None, shards, first, count)
        assert images[:, 0, 0, 0].tolist() == list(range(first, first + count))
    assert painter.images == 64 and gaps(shards.found().values(), 64) == []


def test_every_image_once_and_counted_once() -> None:
    painter = Painter()
    told: list[tuple[str, int, int]] = []
    drawn = draw_all(
        painter, painter.model, cell(n_samples=50, batch_size=16, energy_s=0.6), CPU, WORLD, lambda *a: told.append(a), NONE_KEPT
    )
    assert drawn.images[:, 0, 0, 0].tolist() == list(range(50))
    assert drawn.calls.per_image(50) == {"net": 1.0} and painter.images > 58  # eight to warm up, fifty, and more for the energy
    assert drawn.batch == 16 and len(drawn.batch_s) == 3 and max(drawn.batch_s) < 0.05  # making a request is not the strategy's time
    energy = drawn.energy
    assert energy.window_s.value is not None and energy.window_s.value >= 0.6
    assert energy.kwh.n is not None and energy.kwh.n >= TRIALS
    assert told[3] == ("sampling", 50, 50)


def test_what_was_drawn_before_is_not_drawn_again(tmp_path: Path) -> None:
    """An interrupted cell goes on where it was: the same images, and the counts and seconds of all of them."""
    asked = cell(n_samples=50, batch_size=16, energy_s=0.01)

    def shards() -> Shards:
        return Shards(tmp_path, lambda: "weights", every_s=0.0)

    class Interrupted(Exception): ...

    def stop(_what: str, done: int, _total: int) -> None:
        if done == 32:
            raise Interrupted

    first = Painter()
    with pytest.raises(Interrupted):
        draw_all(first, first.model, asked, CPU, WORLD, stop, shards())
    second, told = Painter(), list[int]()
    drawn = draw_all(second, second.model, asked, CPU, WORLD, lambda _what, done, _total: told.append(done), shards())
    assert drawn.images[:, 0, 0, 0].tolist() == list(range(50))
    assert drawn.calls.per_image(50) == {"net": 1.0} and len(drawn.batch_s) == 3
    assert told == [48, 50]  # 32 lay there


def test_what_does_not_fit_is_drawn_in_smaller_batches() -> None:
    painter = Painter()

    def narrow(first: int, count: int) -> Callable[[], Tensor]:
        if count > 5:
            raise MemoryError
        return painter(first, count)

    drawn = draw_all(narrow, painter.model, cell(n_samples=20, batch_size=16, energy_s=0.01), CPU, WORLD, lambda *_: None, NONE_KEPT)
    assert drawn.images[:, 0, 0, 0].tolist() == list(range(20)) and drawn.batch == 4


def test_trials_hold_every_batch() -> None:
    laps: list[float] = []
    trials = Trials(laps.append, window_s=0.09)
    while not trials.complete:
        time.sleep(0.01)
        trials.add(7)
    assert len(laps) == TRIALS and all(lap % 7 == 0 and lap > 0 for lap in laps)


def test_what_is_no_image_is_refused() -> None:
    def wrong(_first: int, count: int) -> Callable[[], Tensor]:
        return lambda: torch.zeros(count, 1, 8, 8)

    with pytest.raises(ValueError, match=r"sample returned torch\.float32"):
        draw_all(wrong, nn.Identity(), cell(n_samples=4, batch_size=4, energy_s=0.01), CPU, WORLD, lambda *_: None, NONE_KEPT)


def test_best_batch_survives_a_lack_of_memory() -> None:
    """A call costs 5 ms whatever its size, so four times the batch would be best, were there memory for it."""

    def sample(count: int, most: int) -> Tensor:
        if count > most:
            raise MemoryError
        time.sleep(0.005)
        return torch.zeros(count)

    def draw(_first: int, count: int, most: int = 1000) -> Callable[[], Tensor]:
        return partial(sample, count, most)

    assert best_batch(draw, 16, 0.005, 1.0, CPU)[0] == 64
    size, rate = best_batch(lambda first, count: draw(first, count, 20), 16, 0.005, 1.0, CPU)
    assert size == 16 and rate == 16 / 0.005
    assert best_batch(draw, 16, 0.005, 0.001, CPU)[0] == 16  # no time to try


def test_operations_are_priced_by_the_evaluations_of_all_images() -> None:
    """Two images that were counted took 40 evaluations each, all of them 50 on average; without a network nothing is scaled."""
    assert evaluations_ratio({"net": 50.0}, {"net": 40.0}) == 1.25
    assert evaluations_ratio({"a": 10.0, "b": 1.0}, {"a": 10.0, "b": 1.0}) == 1.0
    assert evaluations_ratio({}, {}) == 1.0
