"""On a GPU, with the driver as witness: between the first and the last evaluation of its networks no strategy waits for the device.

The check of processors (`check_no_waiting`) sees values read that descend from the networks; here any wait counts, copies to it too.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor, nn

from bench.cards import Generate
from bench.contract import Request
from bench.data.datasets import DataSource, load
from bench.harness.scenes import scene_of
from bench.meters.calls import networks
from bench.testing.calls import seen_calls
from bench.testing.subject import BATCH, Subject, tiny_assets
from tests.test_conformance import EXCEPTIONS, REGISTRY

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICE = torch.device("cuda")
COPIES = {  # strategies that copy a table to the device between two networks -> where
    "eps.retrieval.rdm": "once a request: the denoiser, with its table of sigmas, is put together after the neighbours were retrieved",
}


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


@lru_cache
def asset(name: str) -> nn.Module:
    """A shared part of the checks, on the device."""
    return copy.deepcopy(tiny_assets().get(name).module).to(DEVICE)


@lru_cache(maxsize=1)
def fitted(name: str) -> tuple[Callable[[], Tensor], nn.Module]:
    """(a call that samples, the model), the strategy fitted on the device in the first configuration of its card."""
    subject = Subject(name, REGISTRY)
    scene = scene_of(Generate(), load("digits", DataSource()), DEVICE, BATCH)
    here = tiny_assets().kit_with(subject.cls.card.assets)
    kit = scene.kit(replace(here, device=DEVICE, assets={part: partial(asset, part) for part in here.assets}))
    model, request = subject.strategy.fit(kit), scene.request(torch.arange(BATCH), 0)
    assert isinstance(request, Request)
    return torch.no_grad()(lambda: subject.strategy.sample(model, request)), model


def drawing() -> list[object]:
    """The strategies that generate; exceptions are those of the check of processors, and the copies."""
    found = []
    for name in REGISTRY:
        if any(isinstance(task, Generate) for task in REGISTRY.get(name).card.tasks):
            reason = EXCEPTIONS.get((name, "check_no_waiting"), COPIES.get(name))
            marks = [pytest.mark.xfail(reason=reason, raises=RuntimeError, strict=True)] if reason else []
            found.append(pytest.param(name, marks=marks))
    return found


@pytest.mark.parametrize("name", drawing())
def test_sampling_never_waits(name: str) -> None:
    sample, model = fitted(name)
    watched = list(networks(model).values())
    with seen_calls(watched) as calls:
        sample()  # libraries may wait at their first use
    with no_waiting(watched, len(calls)):
        sample()


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
