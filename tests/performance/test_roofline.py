"""How near our networks come to what this device can do, in the shapes of our suites: measured peaks against counted work."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from bench.data.images import padded
from bench.meters.flops import counted_flops
from bench.meters.latency import measure, median_interval, timed
from bench.meters.roofline import Peaks, roof, work_of
from bench.nets.ema import seeded
from bench.nets.unet import UNet, unet_for
from bench.suites import suite

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = DEVICE.type == "cuda"
SHAPES = {"fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)} if ON_GPU else {"digits": (1, 8, 8), "fashion-mnist-16": (1, 16, 16)}
SIDE = 8192 if ON_GPU else 2048  # of the matrices
COPIED = 2**30 if ON_GPU else 2**28  # bytes, beyond any cache
REPEATS, LIMIT_S = 5, 15.0
DTYPES = [
    torch.float32,
    pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device: no suite of a processor runs in it")),
]


def best_s(call: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls, as a peak is what the device reaches undisturbed."""
    timed(call, DEVICE)
    return min(timed(call, DEVICE) for _ in range(REPEATS))


@contextmanager
def as_convolutions() -> Iterator[None]:
    """On a GPU, float32 products of matrices in TF32, which is how its convolutions run by default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if ON_GPU else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def peak_flops(dtype: torch.dtype) -> float:
    generator = torch.Generator(DEVICE).manual_seed(0)
    a, b = (torch.randn(SIDE, SIDE, generator=generator, device=DEVICE).to(dtype) for _ in range(2))
    return 2 * SIDE**3 / best_s(lambda: a @ b)


def peak_bytes() -> float:
    """Each byte copied is one read and one written."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * COPIED / best_s(lambda: target.copy_(source))


@pytest.fixture(scope="module")
def peaks() -> dict[torch.dtype, Peaks]:
    memory = peak_bytes()
    with as_convolutions():
        found = {dtype: Peaks(flops_per_s=peak_flops(dtype), bytes_per_s=memory) for dtype in (torch.float32, torch.bfloat16)}
    for dtype, peak in found.items():
        name = "TF32" if ON_GPU and dtype is torch.float32 else str(dtype).removeprefix("torch.")
        threads = "" if ON_GPU else f", {torch.get_num_threads()} threads"
        print(f"\npeak of {DEVICE}{threads}: {peak.flops_per_s / 1e9:,.0f} GFLOP/s in {name}, {memory / 1e9:,.1f} GB/s", end="")
    return found


def subject(name: str, dtype: torch.dtype) -> tuple[UNet, tuple[Tensor, ...]]:
    """The network of a suite and a batch of its size; in bfloat16 with the channels last."""
    budget, (channels, height, width) = suite.load(name).budget, padded(SHAPES[name])
    with seeded(0):
        network = unet_for(height, channels, channels, 10, budget.width).to(DEVICE, dtype).eval()
    generator, batch = torch.Generator(DEVICE).manual_seed(0), budget.batch_size
    x = torch.randn(batch, channels, height, width, generator=generator, device=DEVICE).to(dtype)
    if dtype is torch.bfloat16:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return network, (x, torch.full((batch,), 500.0, device=DEVICE, dtype=dtype), torch.arange(batch, device=DEVICE) % 10)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_roofline(name: str, dtype: torch.dtype, peaks: dict[torch.dtype, Peaks]) -> None:
    """Float32 as our strategies call it; bfloat16 compiled."""
    network, inputs = subject(name, dtype)
    work, batch = work_of(network, inputs), len(inputs[0])
    with counted_flops() as counter:
        network(*inputs)
    assert counter.total == round(work.flops * batch)
    if dtype is torch.bfloat16:
        network.compile(dynamic=False)
    limit, seconds = roof(work, peaks[dtype]), measure(lambda: network(*inputs), DEVICE, LIMIT_S).samples_s
    slow, fast = (batch / s for s in reversed(median_interval(seconds)))
    rate = batch / statistics.median(seconds)
    print(f"\n{name}, {'x'.join(map(str, SHAPES[name]))}, batch {batch}, {dtype}: ", end="")
    print(f"an image is {work.flops / 1e6:,.1f} MFLOP and {work.bytes / 1e6:,.2f} MB; {rate:,.0f} image-evaluations/s, ", end="")
    print(f"roof {limit.per_s:,.0f} by {limit.bound}; ", end="")
    print(f"ratio {rate / limit.per_s:.3f} [{slow / limit.per_s:.3f}, {fast / limit.per_s:.3f}]")
    assert rate / limit.per_s > 0.005
