"""What a person sees of a run: two progress bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.harness.suite import Suite
from bench.values import Cell, Status


class TickLike(Protocol):
    what: str
    done: int
    total: int


class Display:
    """Bars with images per second and remaining time; on a pipe, a line a job."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextmanager
    def suite(self, suite: Suite, cells: int, reused: int) -> Iterator[None]:
        self._console.print(f"[bold]{suite.title}[/bold]: {cells} cells, {reused} already done")
        with self._bars:
            self._all = self._bars.add_task("cells", total=cells, completed=reused, rate="")
            yield

    @contextmanager
    def job(self, title: str) -> Iterator[Callable[[TickLike], None]]:
        task = self._bars.add_task(title, total=None, rate="")
        seen = {"what": "", "since": time.monotonic(), "from": 0}

        def tick(tick: TickLike) -> None:
            if tick.what != seen["what"]:
                seen.update({"what": tick.what, "since": time.monotonic(), "from": tick.done})
            elapsed = time.monotonic() - float(seen["since"])
            rate = (tick.done - int(seen["from"])) / elapsed if elapsed > 0 else 0.0
            text = title if tick.what in title else f"{title}: {tick.what}"
            shown = f"{rate:,.0f} images/s" if rate else ""
            self._bars.update(task, description=text, completed=tick.done, total=tick.total, rate=shown)

        begin = time.monotonic()
        try:
            yield tick
        finally:
            self._bars.remove_task(task)
        if title.startswith("asset "):
            self.line(f"  {title}: {time.monotonic() - begin:.1f} s")

    def cell_done(self, cell: Cell, status: Status, reason: str | None, wall_s: float) -> None:
        self._bars.advance(self._all)
        good = status is Status.OK
        text = f"  {cell.label}: {status}, {wall_s:.1f} s" + ("" if good else f": {reason}")
        self.line(text)

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
