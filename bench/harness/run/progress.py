"""What a person sees of a run: two progress bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.harness.plan.cells import Skipped
from bench.harness.run.messages import Tick
from bench.suites.suite import Suite
from bench.values import Cell, Status


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
    def job(self, title: str) -> Iterator[Callable[[Tick], None]]:
        """A bar for one job; the rate is that of its present phase."""
        task = self._bars.add_task(title, total=None, rate="")
        first, since = Tick("", 0, 0), time.monotonic()

        def show(tick: Tick) -> None:
            nonlocal first, since
            if tick.what != first.what:
                first, since = tick, time.monotonic()
            elapsed = time.monotonic() - since
            rate = f"{(tick.done - first.done) / elapsed:,.0f} images/s" if elapsed > 0 and tick.done > first.done else ""
            text = title if tick.what in title else f"{title}: {tick.what}"
            self._bars.update(task, description=text, completed=tick.done, total=tick.total, rate=rate)

        try:
            yield show
        finally:
            self._bars.remove_task(task)

    def cell_done(self, cell: Cell, status: Status, reason: str | None, wall_s: float) -> None:
        self._bars.advance(self._all)
        self.line(f"  {cell.label}: {status}, {wall_s:.1f} s" + (f": {reason}" if reason else ""))

    def skipped(self, left_out: Iterable[Skipped]) -> None:
        for skipped in left_out:
            self.line(f"  skipped {skipped}")

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
