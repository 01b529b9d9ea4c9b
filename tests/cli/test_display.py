"""What a person sees while a suite runs: bars with images per second and time left on a terminal, plain lines on a pipe."""

import io
import time

from rich.console import Console

from bench.harness.run.messages import Tick
from bench.harness.run.progress import Display
from bench.suites import suite
from bench.values import Status
from tests.made_records import made_cell


def watch(terminal: bool) -> str:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=terminal, width=140))
    with display.suite(suite.load("smoke"), cells=2, reused=1):
        with display.job("asset denoiser") as tick:
            for done in range(0, 1001, 100):
                tick(Tick("asset denoiser", done, 1000))
                time.sleep(0.03)
        display.cell_done(made_cell("eds.representation.ddim", steps=5), Status.FAILED, "ValueError: no [markup]", 1.25)
    return out.getvalue()


def test_terminal_shows_rate_and_remaining_time() -> None:
    shown = watch(terminal=True)
    assert "images/s" in shown and "asset denoiser" in shown and "/1000" in shown and "0:00:0" in shown


def test_pipe_gets_plain_lines() -> None:
    lines = watch(terminal=False).splitlines()
    assert lines[0] == "Smoke test of every strategy: 2 cells, 1 already done"
    assert lines[1] == "  eds.representation.ddim[steps=5] seed 0: failed, 1.2 s: ValueError: no [markup]"
    assert len(lines) == 2
