"""On a GPU, with the driver as witness: between the first and the last evaluation of its networks no strategy waits for the device.

`check_no_waiting` asks the same of a GPU that the processor plays.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn

from bench.meters.calls import networks
from bench.testing.calls import seen_calls
from bench.testing.subject import Subject
from tests.house.test_conformance import EXCEPTIONS, REGISTRY

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICE = torch.device("cuda")


@contextmanager
def no_waiting(watched: Iterable[nn.Module], evaluations: int) -> Iterator[None]:
    """From the start of the first of that many evaluations of the watched networks to the start of the last, a wait is a `RuntimeError`."""
    begun = 0

    def begins(_network: nn.Module, _inputs: object) -> None:
        nonlocal begun
        begun += 1
        torch.cuda.set_sync_debug_mode("error" if begun < evaluations else "default")

    handles = [network.register_forward_pre_hook(begins) for network in watched]
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
        for handle in handles:
            handle.remove()


@lru_cache(maxsize=1)
def subject(name: str) -> Subject:
    return Subject(name, REGISTRY, DEVICE)


def cases() -> list[object]:
    """All strategies, with the exceptions of the check."""
    reasons = {name: EXCEPTIONS.get((name, "check_no_waiting")) for name in REGISTRY}
    marks = {name: [pytest.mark.xfail(reason=why, raises=RuntimeError, strict=True)] if why else [] for name, why in reasons.items()}
    return [pytest.param(name, marks=marks[name]) for name in REGISTRY]


@pytest.mark.parametrize("name", cases())
def test_sampling_never_waits(name: str) -> None:
    s = subject(name)
    watched = list(networks(s.model).values())
    with seen_calls(watched) as calls:
        s.sample()  # libraries may wait at their first use
    with no_waiting(watched, len(calls)):
        s.sample()


WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "cpu": lambda x: x.cpu(),
    "a boolean index": lambda x: x[x > 0],
    "a copy from the host": lambda x: x + torch.ones(4).to(DEVICE),
}


@pytest.mark.parametrize("name", WAITS)
def test_each_wait_is_found_between_evaluations_alone(name: str) -> None:
    """Where `wait` comes before evaluation `place` of 3, or after the last."""

    def fails(place: int) -> bool:
        network, x = nn.Linear(4, 4, device=DEVICE), torch.ones(2, 4, device=DEVICE)
        try:
            with torch.no_grad(), no_waiting([network], 3):
                for k in range(3):
                    if k == place:
                        WAITS[name](x)
                    x = x + network(x)
                if place == 3:
                    WAITS[name](x)
        except RuntimeError:
            return True
        return False

    assert [fails(place) for place in range(4)] == [False, True, True, False]
