"""Every registered strategy against every conformance check."""

from functools import lru_cache

import pytest

from bench.registry import discover
from bench.testing.checks import CHECKS
from bench.testing.subject import Subject

REGISTRY = discover()
EXCEPTIONS: dict[tuple[str, str], str] = {  # (strategy, check) -> reason; each runs as a strict xfail
    ("eds.score_sde.emsde", "check_no_waiting"): "adaptive steps: the loop asks whether any image still has steps to take",
    ("eps.retrieval.rdm", "check_no_waiting"): "copies the table of sigmas once a request, after the neighbours were retrieved",
    ("eps.training.fsdm", "check_no_waiting"): "copies the table of sigmas once a request, after the support was read",
}


@lru_cache(maxsize=2)
def subject(name: str) -> Subject:
    return Subject(name, REGISTRY)


def cases() -> list[object]:
    found = []
    for name in REGISTRY:
        for check in CHECKS:
            reason = EXCEPTIONS.get((name, check.__name__))
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            found.append(pytest.param(name, check, id=f"{name}-{check.__name__.removeprefix('check_')}", marks=marks))
    return found


@pytest.mark.parametrize(("name", "check"), cases())
def test_conformance(name: str, check) -> None:  # type: ignore[no-untyped-def]
    check(subject(name))


def test_no_built_in_is_broken() -> None:
    assert REGISTRY.problems == []
