"""The roof against numbers worked out by hand; the bytes of a network against a count of its layers by hand."""

import pytest
import torch
from torch import Tensor, nn

from bench.meters.roofline import Bound, Peaks, Work, roof, traffic, work_of

PEAKS = Peaks(flops_per_s=100e9, bytes_per_s=10e9)  # they balance at 10 FLOPs a byte


def test_the_lower_limit_is_the_roof() -> None:
    heavy = roof(Work(flops=1e6, bytes=50e3), PEAKS)  # 100,000 by arithmetic, 200,000 by memory
    assert heavy.per_s == pytest.approx(100e3) and heavy.bound is Bound.ARITHMETIC
    light = roof(Work(flops=0.1e6, bytes=50e3), PEAKS)  # 1,000,000 by arithmetic, 200,000 by memory
    assert light.per_s == pytest.approx(200e3) and light.bound is Bound.MEMORY


def test_a_faster_device_helps_only_at_the_limit() -> None:
    work = Work(flops=0.1e6, bytes=50e3)
    twice_the_arithmetic, twice_the_memory = Peaks(flops_per_s=200e9, bytes_per_s=10e9), Peaks(flops_per_s=100e9, bytes_per_s=20e9)
    assert roof(work, twice_the_arithmetic) == roof(work, PEAKS)
    assert roof(work, twice_the_memory).per_s == pytest.approx(2 * roof(work, PEAKS).per_s)


@pytest.mark.parametrize("work", [Work(flops=0, bytes=1), Work(flops=1, bytes=0), Work(flops=1, bytes=float("nan"))])
def test_no_roof_without_work(work: Work) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        roof(work, PEAKS)


class Doubled(nn.Module):
    """One layer called twice: its weights are read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(self.layer(x)))  # no layer of its own: fused


CHAIN = nn.Sequential(nn.Linear(4, 8, bias=False), nn.SiLU(), nn.Identity(), nn.Linear(8, 2, bias=False))
NUMBERS: dict[str, tuple[nn.Module, tuple[Tensor, ...], int]] = {  # float32 numbers that are read or written
    "linear": (nn.Linear(10, 20), (torch.zeros(4, 10),), 4 * 10 + 4 * 20 + 10 * 20 + 20),
    "convolution": (nn.Conv2d(3, 5, 3, padding=1), (torch.zeros(2, 3, 8, 8),), 2 * 3 * 64 + 2 * 5 * 64 + 3 * 5 * 9 + 5),
    "chain": (CHAIN, (torch.zeros(1, 4),), (4 + 8 + 32) + (8 + 8) + 0 + (8 + 2 + 16)),
    "buffers": (nn.BatchNorm1d(6, affine=False).eval(), (torch.zeros(5, 6),), 2 * 5 * 6 + 2 * 6 + 2),  # its counter is an int64
    "twice": (Doubled(), (torch.zeros(2, 3),), 2 * (6 + 6 + 9)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_bytes_by_hand(name: str) -> None:
    network, inputs, numbers = NUMBERS[name]
    assert traffic(network, inputs) == 4 * numbers
    assert traffic(network, inputs) == 4 * numbers  # no hook was left behind


def test_bytes_follow_the_number_format() -> None:
    network, (x,), numbers = NUMBERS["chain"]
    assert traffic(network.bfloat16(), (x.bfloat16(),)) == 2 * numbers
    network.float()
    assert traffic(nn.Embedding(11, 6), (torch.zeros(3, dtype=torch.long),)) == 8 * 3 + 4 * 3 * 6 + 4 * 11 * 6


def test_work_of_an_image_shares_the_weights() -> None:
    layer = nn.Linear(10, 20, bias=False)
    for batch in (1, 4):
        work = work_of(layer, (torch.zeros(batch, 10),))
        assert work.flops == 2 * 10 * 20
        assert work.bytes == 4 * (10 + 20 + 200 / batch)
