"""The search for what makes the host wait finds each way of reading a value, where it would wait and nowhere else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.testing.waits import waits

READERS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "numpy": lambda x: x.numpy(),
    "__bool__": lambda x: bool(x.sum() > 0),
    "__float__": lambda x: float(x.mean()),
    "__int__": lambda x: int(x.sum()),
    "nonzero": lambda x: (x > 0).nonzero(),
    "a boolean index": lambda x: x[x > 0],
}


@torch.no_grad()
def found(read: Callable[[Tensor], object], place: int) -> list[str]:
    """What is found where `read` is called on the state before evaluation `place` of 3, or after the last."""
    net = nn.Linear(4, 4)
    x = torch.ones(2, 4)
    with waits([net], 3) as names:
        for k in range(3):
            if k == place:
                read(x * 2)
            x = x + net(x)
        if place == 3:
            read(x * 2)
    return names


@pytest.mark.parametrize("name", READERS)
def test_each_read_is_found_between_evaluations_alone(name: str) -> None:
    assert [found(READERS[name], place) for place in range(4)] == [[], [name], [name], []]


def test_schedules_of_the_host_may_be_read() -> None:
    table = torch.linspace(1, 0, 4, dtype=torch.float64)
    assert found(lambda _x: (table.tolist(), float(table[1] ** 2), bool(table[0] > 0)), 1) == []
    assert found(lambda x: float(table[1] * x.mean()), 1) == ["__float__"]  # no longer the host's


def test_arithmetic_is_no_read() -> None:
    assert found(lambda x: (x.clamp(-1, 1) ** 2).mean().where(x > 0, 0)[1:], 1) == []
