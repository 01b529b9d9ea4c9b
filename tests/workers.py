"""How the tests are shared out among pytest's workers: a file is one worker's, and so are all conformance checks of one strategy.

What a module, or the checks of a strategy, make once is then made once. The checks come last: they are many and short, so that no worker is
left with a long file while the others have nothing to do.
"""

import os

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from bench.meters.processor import cores

CHECKS = "test_conformance.py"
BYTES_EACH = 4 << 30


class ByFile(LoadScopeScheduling):
    """In the order of collection."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid)


def share(nodeid: str) -> str:
    """The tests that one worker runs: those of a file, or those of a strategy."""
    file, _, test = nodeid.partition("::")
    return f"{file}::{test.rpartition('-')[0]}" if file.endswith(CHECKS) else file


def count() -> int:
    """One for each core that this process may use, as far as there is memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores(), memory // BYTES_EACH))


def in_order(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name == CHECKS)
