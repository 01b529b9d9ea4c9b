"""Ctrl-C and SIGTERM, which batch systems send before they kill."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)
AGAIN_S = 0.05  # until a stop that Python dropped is sent anew


@contextmanager
def resumable() -> Iterator[None]:
    """Around a run: the first stop ends the command with one line and exit code 130 or 143; those that follow it change nothing."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN}
    hook, sys.unraisablehook = sys.unraisablehook, stop.unraisable
    try:
        yield
    except KeyboardInterrupt:
        print("bench: interrupted; finished cells are kept, run again to go on", file=sys.stderr)
        before = dict.fromkeys(before, signal.SIG_IGN)  # nothing is left to stop but the end
        raise SystemExit(128 + (stop.asked or signal.SIGINT)) from None
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop:
    """A handler that raises KeyboardInterrupt for the first stop: one more while the run cleans up would leave it half done."""

    def __init__(self) -> None:
        self.asked: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = number
            raise KeyboardInterrupt

    def unraisable(self, dropped: "sys.UnraisableHookArgs") -> None:
        """Python drops exceptions that a finaliser raises; if it was the stop, it comes again a moment later."""
        if not issubclass(dropped.exc_type, KeyboardInterrupt) or self.asked is None:
            return sys.__unraisablehook__(dropped)
        number, self.asked = self.asked, None
        threading.Timer(AGAIN_S, signal.raise_signal, [number]).start()


@contextmanager
def stops_held_back() -> Iterator[None]:
    """A stop waits until the block is over, as half of it done would leave a process that nobody knows.

    SIGINT is blocked besides, for a child to inherit: Ctrl-C is its parent's business.
    """
    caught: list[int] = []
    handlers: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # handlers, and the exceptions they raise, are its own
        handlers = {stop: signal.signal(stop, lambda number, _: caught.append(number)) for stop in STOPS}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for stop, handler in handlers.items():
            signal.signal(stop, handler)
        if caught:
            signal.raise_signal(caught[0])
