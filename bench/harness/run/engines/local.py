"""The embedded engine: worker processes on this machine's devices, replaced after any fault, timeout or death."""

import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from bench.harness.machine import device_name
from bench.harness.run.engine import News
from bench.harness.run.engines.starting import started
from bench.harness.run.messages import Done, Job, Message, Setup, Tick
from bench.values import Status

GRACE_S = 2.0


def local_engine(setup: Setup, workers: int = 1) -> "LocalEngine":
    """So many workers on the processor; one on a GPU, or, where the setup says `cuda`, on each of this machine's that is like the first."""
    if not setup.device.startswith("cuda"):
        return LocalEngine([replace(setup, workers=workers)] * workers)
    assert workers == 1, "a GPU is not divided"
    if setup.device != "cuda":
        return LocalEngine([setup])
    devices = [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    return LocalEngine([setup.on(str(d)) for d in devices if device_name(d) == device_name(devices[0])])


class LocalEngine:
    """A slot for each setup; its worker starts when it is first needed."""

    def __init__(self, setups: Sequence[Setup]) -> None:
        self._workers = [Worker(setup) for setup in setups]

    @property
    def slots(self) -> int:
        return len(self._workers)

    def submit(self, slot: int, job: Job, limit_s: float) -> None:
        self._workers[slot].start(job, limit_s)

    def wait(self, timeout_s: float) -> News | None:
        busy = {slot: worker for slot, worker in enumerate(self._workers) if worker.busy}
        sources = {source: slot for slot, worker in busy.items() for source in worker.sources}
        ready = wait(list(sources), timeout=max(0.0, min([timeout_s, *(worker.left_s for worker in busy.values())])))
        for source in ready:
            slot = sources[source]  # type: ignore[index]
            return News(slot=slot, message=busy[slot].told())
        late = next((slot for slot, worker in busy.items() if worker.left_s <= 0), None)
        return None if late is None else News(slot=late, message=busy[late].overrun())

    def cancel(self, slot: int) -> None:
        if self._workers[slot].busy:
            self._workers[slot].kill()

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


class Worker:
    """A process and the pipe to it; busy from `start` until it has told of the job's end."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._end: float | None = None

    @property
    def busy(self) -> bool:
        return self._end is not None

    @property
    def left_s(self) -> float:
        """Seconds until the present job's limit."""
        assert self._end is not None
        return self._end - time.monotonic()

    @property
    def sources(self) -> "tuple[Connection, int]":
        """What becomes ready when there is something to tell: the pipe, and the end of the process."""
        assert self._pipe is not None and self._process is not None
        return self._pipe, self._process.sentinel

    def start(self, job: Job, limit_s: float) -> None:
        self._ready().send(job)
        self._end = time.monotonic() + limit_s

    def told(self) -> Message:
        """The next message; a worker that died has one too."""
        assert self._process is not None and self._pipe is not None
        try:
            message: Message = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.close()
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            return Done(Status.KILLED, f"the worker process died ({how})")
        if not isinstance(message, Tick):
            self._end = None
        if isinstance(message, Done) and message.status is not Status.OK:
            self.close()  # a fresh process, so that one cell's fault cannot colour the next
        return message

    def overrun(self) -> Done:
        """End the job that has run past its limit."""
        self.kill()
        return Done(Status.TIMEOUT, "ran past its time limit and was ended")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process: politely, then for certain."""
        self._end = None
        if self._process is None or self._pipe is None:
            return
        self._pipe.close()
        self._process.join(GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _ready(self) -> Connection:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self.close()
            self._process, self._pipe = started(self._setup)
        return self._pipe
