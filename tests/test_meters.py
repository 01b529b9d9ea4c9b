"""Meters against things of known cost."""

import time

import pytest
import torch
from torch import Tensor, library, nn

from bench.meters.calls import counted, networks
from bench.meters.energy import combine, energy_meter
from bench.meters.flops import UncountedOperation, counted_flops, is_expensive, network_flops, trajectory_flops
from bench.meters.latency import measure, median_spread, timed
from bench.meters.memory import peak_memory
from bench.meters.params import buffer_bytes, parameter_count
from bench.nets.autoencoder import Autoencoder
from bench.nets.classifier import Classifier, NoisyClassifier
from bench.nets.unet import unet_for
from bench.values import EnergySource

CPU = torch.device("cpu")
NETWORKS = {
    "unet 8": (unet_for(8, 1, 1, 10, 16), (torch.zeros(2, 1, 8, 8), torch.zeros(2))),
    "unet 16": (unet_for(16, 3, 3, 10, 16), (torch.zeros(2, 3, 16, 16), torch.zeros(2))),
    "decoder": (Autoencoder(1, 4, 16).decoder, (torch.zeros(2, 4, 4, 4),)),
    "encoder": (Autoencoder(1, 4, 16).encoder, (torch.zeros(2, 1, 8, 8),)),
    "classifier": (Classifier(1, 10), (torch.zeros(2, 1, 8, 8),)),
    "noisy classifier": (NoisyClassifier(1, 10), (torch.zeros(2, 1, 8, 8), torch.ones(2))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_two_flop_counters_agree_to_the_integer(name: str) -> None:
    network, inputs = NETWORKS[name]
    with torch.no_grad(), counted_flops() as counter:
        network(*inputs)
    assert counter.total == network_flops(network, inputs) > 0


def test_flops_by_hand() -> None:
    linear, conv = nn.Linear(10, 20, bias=False), nn.Conv2d(3, 5, 3, padding=1)
    assert network_flops(linear, (torch.zeros(4, 10),)) == 2 * 4 * 10 * 20
    assert trajectory_flops(lambda: conv(torch.zeros(2, 3, 8, 8))) == 2 * 5 * 3 * 9 * 64


def test_attention_is_counted() -> None:
    q = torch.zeros(1, 2, 16, 8)
    with counted_flops() as counter:
        nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.total == 2 * 2 * 2 * 16 * 16 * 8


def test_gradients_are_counted() -> None:
    """Forward and both backward products of x W with respect to x and W: three times the forward."""
    weight = torch.zeros(10, 20, requires_grad=True)
    x = torch.zeros(4, 10, requires_grad=True)
    with torch.enable_grad(), counted_flops() as counter:
        (x @ weight).sum().backward()
    assert counter.total == 3 * 2 * 4 * 10 * 20


def test_unknown_expensive_operation_fails_the_count() -> None:
    assert is_expensive("_scaled_dot_product_flash_attention_for_cpu") and is_expensive("conv_depthwise3d")
    assert is_expensive("baddbmm") and not is_expensive("add") and not is_expensive("group_norm")

    @library.custom_op("bench_test::fused_conv", mutates_args=())
    def fused_conv(x: Tensor) -> Tensor:
        return x.clone()

    with pytest.raises(UncountedOperation, match="fused_conv"), counted_flops():
        fused_conv(torch.zeros(2))


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


def test_tied_parameters_count_once_and_buffers_in_bytes() -> None:
    assert parameter_count(Pair()) == 4 + 2 + 2
    assert buffer_bytes(Pair()) == 80


def test_sleep_is_measured() -> None:
    """The shortest of ten, as a busy machine can only make a sleep longer."""
    assert min(timed(lambda: time.sleep(0.05), CPU) for _ in range(10)) == pytest.approx(0.05, abs=5e-4)
    assert measure(lambda: time.sleep(0.01), CPU, limit_s=0.3).p50 >= 0.01


def test_latency_stops_at_its_limit_and_keeps_order() -> None:
    begin = time.monotonic()
    latency = measure(lambda: time.sleep(0.02), CPU, limit_s=0.5)
    assert time.monotonic() - begin < 1.0 and latency.p50 <= latency.p95
    assert median_spread([1.0] * 30) == 0


def test_peak_memory_of_256_mib() -> None:
    with peak_memory(CPU) as peak:
        block = torch.ones(64 * 2**20)
        del block
    if peak.measure.value is None:
        pytest.skip(peak.measure.reason or "")
    assert peak.measure.value == pytest.approx(256 * 2**20, abs=4 * 2**20)


def test_gpu_counter_of_known_joules() -> None:
    joules = iter([1000.0, 1000.0 + 3.6e6])
    with energy_meter(CPU, counter=lambda: next(joules)) as meter:
        sum(range(100_000))
    assert meter.energy.source is EnergySource.NVML_COUNTER
    assert meter.energy.kwh.value is not None
    assert 1.0 <= meter.energy.kwh.value < 1.0 + 1e-4  # a kilowatt-hour of the GPU, and a moment of the host


@pytest.mark.parametrize(
    ("host", "gpu", "on_gpu", "has_counter"),
    [(1e-5, 0.0, True, False), (1e-5, 0.0, True, True), (0.0, 0.0, False, False), (None, 0.1, True, True)],
)
def test_energy_is_never_a_silent_zero(host: float | None, gpu: float, on_gpu: bool, has_counter: bool) -> None:
    energy = combine(host, gpu, on_gpu, has_counter)
    assert energy.kwh.value is None and energy.co2_kg.value is None and energy.kwh.reason
    assert energy.source is None


def test_cpu_energy_is_marked_as_an_estimate() -> None:
    with energy_meter(CPU) as meter:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            torch.ones(100, 100) @ torch.ones(100, 100)
    assert meter.energy.source is EnergySource.ESTIMATED_LOAD
    assert meter.energy.kwh.value is not None and meter.energy.kwh.value > 0
