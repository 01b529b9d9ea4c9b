"""Conformance: what every strategy must satisfy. Run by `bench check NAME|FILE`, and over the whole registry by the tests.

An exception table for known faults, each with its reason, lives with the tests.
"""

from dataclasses import dataclass

from bench.registry import Registry
from bench.testing.checks import CHECKS
from bench.testing.subject import Subject


@dataclass(frozen=True)
class Result:
    check: str
    fault: str | None


def check_all(name: str, registry: Registry) -> list[Result]:
    """Every check on one strategy; a fault is one line."""
    subject = Subject(name, registry)
    results = []
    for check in CHECKS:
        try:
            check(subject)
            fault = None
        except Exception as error:  # a strategy may fail in any way; each is that check's fault
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
        results.append(Result(check.__name__.removeprefix("check_"), fault))
    return results
