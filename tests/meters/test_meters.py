"""Meters against things of known cost."""

import mmap
import time

import pytest
import torch
from torch import Tensor, nn

from bench.meters.calls import counted, networks
from bench.meters.latency import measure, median_spread, timed
from bench.meters.memory import peak_memory
from bench.meters.params import buffer_bytes, parameter_count

CPU = torch.device("cpu")


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bare = nn.Linear(2, 2), nn.Linear(2, 2), nn.Identity()
        self.b.weight = self.a.weight
        self.register_buffer("index", torch.zeros(10, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.bare(self.b(self.a(self.a(x))))


def test_calls_are_counted_in_rows_per_network() -> None:
    pair = Pair()
    assert set(networks(pair)) == {"a", "b"}
    with counted(pair) as calls:
        pair(torch.zeros(6, 2))
        pair(torch.zeros(2, 2))
    pair(torch.zeros(2, 2))
    assert calls.per_image(4) == {"a": 4.0, "b": 2.0}


class Codec(nn.Module):
    """A network that is told a level, by position or by keyword, and a decoder that is told none."""

    def __init__(self) -> None:
        super().__init__()
        self.prior, self.decoder = Timed(), nn.Linear(2, 2)


class Timed(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self, x: Tensor, timestep: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(x) + timestep.reshape(-1, 1)


def test_evaluations_are_of_networks_that_are_told_a_level_however_they_are_called() -> None:
    model, x = Codec(), torch.zeros(3, 2)
    with counted(model, with_levels=True) as calls:
        model.prior(x, torch.full((3,), 0.5))
        model.prior(x, timestep=torch.tensor(0.25))  # one for the whole batch, as diffusers has it
        model.prior(x=x, labels=torch.zeros(3), timestep=torch.full((3,), 0.125))
        model.decoder(x)
    assert calls.evaluations() == 9 and calls.per_image(3) == {"decoder": 1.0, "prior": 3.0}
    assert calls.levels["prior"] == {0.5, 0.25, 0.125} and calls.steps() == 3 and calls.told == {"prior"}
    with counted(model) as calls:
        model.decoder(x)
    assert calls.evaluations() == 3  # where no network is told a level, each call is an evaluation


def test_tied_parameters_count_once_and_buffers_in_bytes() -> None:
    assert parameter_count(Pair()) == 4 + 2 + 2
    assert buffer_bytes(Pair()) == 80


def test_sleep_is_measured() -> None:
    """Between what a clock inside the call says and one around it, however busy the machine is."""
    inside: list[float] = []

    def call() -> None:
        begin = time.perf_counter()
        time.sleep(0.05)
        inside.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    seconds = timed(call, CPU)
    assert 0.05 <= inside[0] <= seconds <= time.perf_counter() - begin
    assert measure(lambda: time.sleep(0.01), CPU, limit_s=0.3).p50 >= 0.01


def test_latency_stops_at_its_limit_and_keeps_order() -> None:
    begin = time.monotonic()
    latency = measure(lambda: time.sleep(0.02), CPU, limit_s=0.5)
    assert time.monotonic() - begin < 1.0 and latency.p50 <= latency.p95
    assert median_spread([1.0] * 30) == 0


def test_peak_memory_of_256_mib() -> None:
    """Of pages from the system itself: an allocator may have as much in hand from before."""
    with peak_memory(CPU) as peak, mmap.mmap(-1, 256 * 2**20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    if peak.total.value is None:
        pytest.skip(peak.total.reason or "")
    assert peak.growth.value == pytest.approx(256 * 2**20, abs=4 * 2**20)
    assert peak.total.value > peak.growth.value  # the process itself is in it


def test_peak_in_all_has_a_value_where_nothing_grew() -> None:
    with peak_memory(CPU) as peak:
        pass
    if peak.total.value is None:
        pytest.skip(peak.total.reason or "")
    assert peak.total.value > 2**20 and (peak.growth.value is None or peak.growth.value < 2**20)


class Guided(nn.Module):
    """A network told its level, and another that is asked for a gradient at it."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.guide = Told(), Told()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.guide(point, 10 * level).sum(), point)
        return self.base(x, level) + gradient


class Told(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(2, 2)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return self.dense(x) * level[:, None]


def test_a_guided_step_is_one_step() -> None:
    model = Guided()
    with counted(model, with_levels=True) as calls:
        for level in (3.0, 2.0, 1.0):
            model(torch.zeros(4, 2), torch.full((4,), level))
    assert calls.steps() == 3 and calls.per_image(4) == {"base": 3.0, "guide": 3.0}
