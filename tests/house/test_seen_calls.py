"""Network calls priced alone equal the dispatch count of the whole, forward and backward; and do not where something else ran."""

import pytest
import torch
from torch import Tensor, nn

from bench.meters.flops import counted_flops
from bench.nets.ema import frozen, seeded
from bench.nets.unet import UNet
from bench.testing.calls import priced_alone, seen_calls


def nets() -> tuple[nn.Module, nn.Module]:
    """A U-Net with attention, and a linear layer over its output's pixels; both frozen, as what a strategy samples with."""
    with seeded(0):
        both = UNet(1, 1, 10, width=8), nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
    for net in both:
        frozen(net)
    return both


def counts(run, watched: tuple[nn.Module, ...]) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """(priced alone, dispatched)."""
    with torch.no_grad(), seen_calls(watched) as calls, counted_flops() as counter:
        run()
    return priced_alone(calls), counter.total


def image() -> Tensor:
    return torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)


def test_gradient_through_one_of_two_networks() -> None:
    unet, head = nets()

    def run() -> None:
        unet(image(), torch.ones(2))
        with torch.enable_grad():
            x = image().requires_grad_()
            torch.autograd.grad(head(x).sum(), x)

    alone, dispatched = counts(run, (unet, head))
    assert alone == dispatched
    assert counts(lambda: (unet(image(), torch.ones(2)), head(image())), (unet, head))[0] == alone - 2 * 2 * 64 * 5


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_gradient_through_a_chain_of_networks_as_often_as_it_flows(passes: int) -> None:
    unet, head = nets()

    def run() -> None:
        with torch.enable_grad():
            x = image().requires_grad_()
            logits = head(unet(x, torch.ones(2)))
            for k in range(passes):
                torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)

    alone, dispatched = counts(run, (unet, head))
    assert alone == dispatched
    assert (alone > counts(lambda: head(unet(image(), torch.ones(2))), (unet, head))[1]) == (passes > 0)


def test_gradient_through_what_is_not_watched_shows() -> None:
    unet, head = nets()

    def run() -> None:
        with torch.enable_grad():
            x = image().requires_grad_()
            torch.autograd.grad(head(unet(x, torch.ones(2))).sum(), x)

    alone, dispatched = counts(run, (unet,))
    assert alone < dispatched


def test_gradient_of_weights_shows() -> None:
    unet, head = nets()
    head.requires_grad_(True)

    def run() -> None:
        with torch.enable_grad():
            x = image().requires_grad_()
            head(x).sum().backward()

    alone, dispatched = counts(run, (unet, head))
    assert alone < dispatched
