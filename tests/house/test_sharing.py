"""How tests are shared out among workers, and tensors found among arguments."""

from collections import namedtuple

import pytest
import torch
from torch import Tensor

from bench.testing.trees import changed, tensors
from tests import workers
from tests.house.test_conformance import CHECKS, REGISTRY

Pair = namedtuple("Pair", "first second")


def test_a_worker_has_a_file_or_a_strategy() -> None:
    here, checks = "tests/test_run.py", f"tests/{workers.CHECKS}"
    assert workers.share(f"{here}::test_one[a-b]") == workers.share(f"{here}::test_other") == here
    ids = {name: {f"{name}-{check.__name__.removeprefix('check_')}" for check in CHECKS} for name in REGISTRY}
    shares = {name: {workers.share(f"{checks}::test_conformance[{i}]") for i in ids[name]} for name in ids}
    assert all(len(share) == 1 for share in shares.values()) and len(set().union(*shares.values())) == len(ids) > 30


def test_checks_come_last_and_the_rest_stays_in_order(request: pytest.FixtureRequest) -> None:
    names = [item.path.name for item in request.session.items]
    assert sorted(names, key=lambda name: name == workers.CHECKS) == names


def test_one_worker_a_core_where_there_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 6)
    for gigabytes, count in ((64, 6), (15, 3), (2, 1)):
        monkeypatch.setattr(workers.os, "sysconf", lambda name, n=gigabytes: 4096 if name == "SC_PAGE_SIZE" else (n << 30) // 4096)
        assert workers.count() == count


def test_one_thread() -> None:
    assert torch.get_num_threads() == 1


def nest(a: Tensor, b: Tensor, c: Tensor) -> tuple[object, ...]:
    return (1, a, [None, (b, "x")], {"key": [c], "size": torch.Size([2, 3])}, torch.device("cpu"))


def test_tensors_are_found_and_changed_wherever_they_stand() -> None:
    a, b, c = (torch.full((2,), float(k)) for k in range(3))
    assert [id(x) for x in tensors(nest(a, b, c))] == [id(a), id(b), id(c)]
    assert changed(lambda x: float(x[0]), nest(a, b, c)) == nest(0.0, 1.0, 2.0)  # type: ignore[arg-type]
    assert len(tensors([Pair(a, 1), torch.max(torch.ones(2, 2), dim=0)])) == 3
    raised = changed(lambda x: x + 1, Pair(a, 1))
    assert type(raised) is Pair and torch.equal(raised.first, a + 1) and raised.second == 1
    assert type(changed(lambda x: x, torch.Size([2]))) is torch.Size
