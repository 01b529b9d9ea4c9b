"""The embedded engine: one worker process on this machine, replaced after any fault, timeout or death."""

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from bench.harness.worker import Done, Job, Message, Refused, Setup, Tick, serve
from bench.values import Status, UserError

GRACE_S = 2.0


class LocalEngine:
    """Runs one job at a time in a worker that starts when it is first needed."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, job: Job, limit_s: float, on_tick: Callable[[Tick], None]) -> Done:
        """The job's outcome; a worker that dies or overruns is an outcome too. A `UserError` is passed on."""
        pipe = self._ready()
        pipe.send(job)
        end = time.monotonic() + limit_s
        while True:
            message = self._next(pipe, end)
            match message:
                case Tick():
                    on_tick(message)
                case Refused(text):
                    raise UserError(text)
                case Done(status, _):
                    if status is not Status.OK:
                        self.close()  # a fresh process, so that one cell's fault cannot colour the next
                    return message

    def close(self) -> None:
        """End the worker: politely, then for certain."""
        if self._process is None or self._pipe is None:
            return
        self._pipe.close()
        self._process.join(GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _next(self, pipe: Connection, end: float) -> Message:
        assert self._process is not None
        process = self._process
        ready = wait([pipe, process.sentinel], timeout=max(0.0, end - time.monotonic()))
        if not ready:
            process.kill()
            self.close()
            return Done(Status.TIMEOUT, "ran past its time limit and was ended")
        try:
            message: Message = pipe.recv()
            return message
        except (EOFError, OSError):
            process.join()
            code = process.exitcode
            self.close()
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            return Done(Status.KILLED, f"the worker process died ({how})")

    def _ready(self) -> Connection:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self.close()
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(theirs, self._setup), daemon=True)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C waits until the child has all it reads at start
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        return self._pipe
