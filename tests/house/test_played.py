"""The GPU that the processor plays refuses what a GPU refuses, gives the processor's numbers, and knows each wait."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bench.testing.checks import check_no_waiting, check_on_gpu
from bench.testing.played import GPU, HOST, TO_DEVICE, TO_HOST, Played, bare, between_evaluations, played_gpu
from bench.testing.subject import first_on_gpu

WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "nonzero": lambda x: (x > 0).nonzero(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "bincount": lambda x: x.abs().long().flatten().bincount(),
    "repeat_interleave": lambda x: x.repeat_interleave(x[0].abs().long(), dim=1),
    "a boolean index": lambda x: x[x > 0],
    "the check of a factorisation": lambda x: torch.linalg.inv(torch.eye(4, device=GPU) + x.T @ x),
    TO_HOST: lambda x: x.cpu(),
    TO_DEVICE: lambda x: x + torch.ones(4).to(GPU),
}
SAME_WAIT: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: (bool(x.sum() > 0), float(x.mean()), int(x.sum()), f"{x.sum():.1f}"),
    TO_HOST: lambda x: (x.to("cpu"), x.to(HOST, torch.float64), torch.ones(2, 4).copy_(x)),
    TO_DEVICE: lambda x: (
        torch.ones(4).cuda(),
        torch.tensor([1.0], device=GPU),
        x.clone().copy_(torch.ones(2, 4)),
        x[:, torch.tensor([0, 2])],
        x + x.new_tensor([1.0]),
    ),
    "a boolean index": lambda x: (x[x > 0], x.clone().index_put_((x > 0,), x.new_zeros(()))),
}
FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: (x.clamp(-1, 1) ** 2).mean().where(x > 0, 0)[1:],
    "numbers of the host": lambda x: x * torch.tensor(2.0) + torch.linspace(1, 0, 4, dtype=torch.float64)[1],
    "tables of the host": lambda _x: (torch.linspace(1, 0, 4).tolist(), float(torch.ones(2)[1]), torch.ones(3)[torch.ones(3) > 0]),
    "what is made there": lambda x: (torch.zeros(4, device=GPU), torch.full_like(x, 2), x.new_ones(3), torch.arange(4, device=x.device)),
    "going where it is": lambda x: (x.to(GPU), x.cuda(), torch.ones(2).cpu(), x.to(x), nn.Linear(4, 4).to(HOST)),
    "indices of the device": lambda x: x[:, torch.arange(2, device=GPU)],
}


@torch.no_grad()
def found(call: Callable[[Tensor], object], place: int) -> list[str]:
    """What waits where `call` comes before evaluation `place` of 3, or after the last."""
    with played_gpu() as waits:
        net = nn.Linear(4, 4).to(GPU)

        def sample() -> None:
            x = torch.ones(2, 4, device=GPU)
            for k in range(3):
                if k == place:
                    call(x)
                x = x + net(x)
            if place == 3:
                call(x)

        return list(between_evaluations([net], sample, waits))


@pytest.mark.parametrize("name", WAITS)
def test_each_wait_is_found_between_evaluations_alone(name: str) -> None:
    assert [found(WAITS[name], place) for place in range(4)] == [[], [name], [name], []]


@pytest.mark.parametrize("name", SAME_WAIT)
def test_every_way_of_a_wait_is_found(name: str) -> None:
    assert found(SAME_WAIT[name], 1) == [name] * {"item": 4, TO_HOST: 3, TO_DEVICE: 5, "a boolean index": 2}[name]


@pytest.mark.parametrize("name", FREE)
def test_nothing_else_is_a_wait(name: str) -> None:
    assert found(FREE[name], 1) == []


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "a sum": lambda x: x + torch.ones(4),
    "a sum in place": lambda x: x.add_(torch.ones(4)),
    "a product": lambda x: x @ torch.ones(4, 4),
    "a list": lambda x: torch.cat([x, torch.ones(1, 4)]),
    "what an index is set to": lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1, 4)),
    "a network": lambda x: nn.Linear(4, 4)(x),
    "a number of the device": lambda x: torch.ones(4) * x.sum(),
    "a generator of the host": lambda _x: torch.randn(4, device=GPU, generator=torch.Generator()),
    "a generator of the device": lambda _x: torch.randn(4, generator=torch.Generator(GPU)),
    "a generator in place": lambda x: x.normal_(generator=torch.Generator()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_two_devices_are_refused(name: str) -> None:
    with played_gpu(), pytest.raises(RuntimeError, match=r"on the host|on cpu|on cuda"):
        REFUSED[name](torch.ones(2, 4, device=GPU))


def test_numpy_is_refused_and_so_is_use_outside() -> None:
    with played_gpu():
        x = torch.ones(2, 4, device=GPU)
        with pytest.raises(TypeError, match="NumPy"):
            x.numpy()
    with pytest.raises(RuntimeError, match="outside of the block"):
        x + 1


class Net(nn.Module):
    """A network that makes tensors of its own, within its calls and within torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 + 3, 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = F.silu(self.conv(x)).mean((2, 3)) * torch.arange(4, device=x.device)
        out: Tensor = self.out(torch.cat([h, F.one_hot(labels, 3)], dim=1))
        return out


def trained(device: torch.device) -> tuple[nn.Module, Tensor]:
    """A network after some steps whose loss holds a gradient, with one part calculated twice, and its last output."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    net = net.to(device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    generator = torch.Generator(device).manual_seed(1)
    for _ in range(3):
        x = torch.randn(6, 1, 5, 5, generator=generator, device=device).requires_grad_()
        labels = torch.randint(3, (6,), generator=generator, device=device)
        out = checkpoint(net.to(device), x, labels, use_reentrant=False)
        [slope] = torch.autograd.grad(net(x, labels).sum(), x, create_graph=True)
        optimiser.zero_grad()
        (out.square().mean() + slope.square().mean()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return net, out.detach()


def test_training_is_the_processors_to_the_bit() -> None:
    net, out = trained(HOST)
    with played_gpu():
        on_gpu, out_on_gpu = trained(GPU)
        copied = copy.deepcopy(on_gpu)
        assert {p.device for p in (*on_gpu.parameters(), *copied.parameters())} == {GPU}
        assert all(isinstance(p, nn.Parameter) and p.is_cuda and p.requires_grad for p in copied.parameters())
        back = copy.deepcopy(copied).to(HOST)
    assert torch.equal(bare(out_on_gpu), out)
    for name, weight in net.state_dict().items():
        assert not isinstance(back.state_dict()[name], Played) and torch.equal(back.state_dict()[name], weight)


class Stub:
    """What the checks use of a strategy under test."""

    def __init__(self, sample: Callable[[torch.device], Tensor], net: nn.Module) -> None:
        self.drawn = SimpleNamespace(value=sample(HOST))
        self.on_gpu: Any = SimpleNamespace(sample=lambda: sample(GPU), model=nn.Sequential(net))
        self.on_gpu.bits_per_dim = lambda: torch.full((2,), 3.0, device=GPU)

    @property
    def drawn_on_gpu(self) -> tuple[Tensor, Sequence[str]]:
        return first_on_gpu(lambda: self.on_gpu)

    def bits_per_dim(self) -> Tensor:
        return torch.full((2,), 3.0)


def subject(sample: Callable[[torch.device], Tensor]) -> Stub:
    return Stub(sample, nn.Linear(4, 4))


def test_the_check_finds_what_is_made_on_the_wrong_device() -> None:
    def right(device: torch.device) -> Tensor:
        return torch.ones(2, 4, device=device) * torch.linspace(0, 1, 4, device=device)

    check_on_gpu(subject(right))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="on the host"):
        check_on_gpu(subject(lambda device: torch.ones(2, 4, device=device) * torch.linspace(0, 1, 4)))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="are on cpu"):
        check_on_gpu(subject(lambda device: right(device).cpu()))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="not those of the processor"):
        check_on_gpu(subject(lambda device: right(device) + (device.type == "cuda")))  # type: ignore[arg-type]
    other = subject(right)
    other.bits_per_dim = lambda: torch.full((2,), 4.0)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="the likelihoods are not"):
        check_on_gpu(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("reads", [False, True])
@torch.no_grad()
def test_the_check_finds_a_loop_that_waits(reads: bool) -> None:
    net = nn.Linear(4, 4)

    def sample(device: torch.device) -> Tensor:
        x = torch.ones(2, 4, device=device)
        for _ in range(3):
            y = net(x.cpu() if reads else torch.ones(2, 4))
            x = y.to(device) if reads else x + 1
        return x

    told = pytest.raises(AssertionError, match="waits for the device 4 times: a copy to the device, a copy to the host")
    with told if reads else nullcontext():
        check_no_waiting(Stub(sample, net))  # type: ignore[arg-type]
