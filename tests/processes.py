"""The command line as a process of its own, to be watched and killed.

It is forked from a process that has made the imports, and so is the server of its workers, which would otherwise be a new interpreter: time
that tests would spend on importing torch. Processes, pipes, files and signals are those of a run.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import cache
from multiprocessing import forkserver, util
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")


@cache
def warm() -> None:
    """Start the process that others are forked from, and wait until it has imported what a run and its report need."""
    forkserver.set_forkserver_preload(["tests.imports"])
    first = CONTEXT.Process(target=os.getpid)
    first.start()
    first.join()


class Running:
    """`bench WORDS`, started in a folder, the leader of its own session; its output goes to two files there."""

    def __init__(self, folder: Path, *words: object) -> None:
        self._out, self._err = folder / "stdout.txt", folder / "stderr.txt"
        files = [str(file) for file in (self._out, self._err)]
        warm()
        self._process = CONTEXT.Process(target=_main, args=(str(folder), files, [str(word) for word in words]))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def out(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def err(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def says(self, words: str, timeout_s: float = 600) -> None:
        """Wait until standard output holds these words."""
        end = time.monotonic() + timeout_s
        while words not in self.out:
            assert time.monotonic() < end and self.alive, self.out + self.err
            time.sleep(0.02)

    def ends(self, timeout_s: float = 600) -> int:
        """The exit code; negative for a signal."""
        self._process.join(timeout_s)
        code: int | None = self._process.exitcode
        if code is None:
            self._process.kill()
        assert code is not None, f"still running after {timeout_s:g} s: {self.out}{self.err}"
        return code


def _main(folder: str, files: Sequence[str], words: Sequence[str]) -> None:
    from bench.cli.main import main
    from bench.report import plots

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, also where the tests themselves ignore Ctrl-C
    os.chdir(folder)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    util.spawnv_passfds = _forked  # type: ignore[attr-defined]
    plots.draw = lambda *_: []  # takes longer than the run
    sys.argv = ["bench", *words]
    main()


def _forked(_interpreter: bytes, arguments: Sequence[str], passed: Sequence[int]) -> int:
    """In place of a new interpreter told `-c CODE`: this one's image runs the code, with the same files open."""
    child = os.fork()
    if child:
        return child
    try:
        edges = sorted({2, *passed})
        for low, high in zip(edges, [*edges[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        exec(arguments[-1], {})
    finally:
        os._exit(0)
