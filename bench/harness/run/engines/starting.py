"""Starting a worker process, so that Ctrl-C and SIGTERM find it started or not at all."""

import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from bench.harness.run.messages import Setup
from bench.harness.run.stops import stops_held_back


def started(setup: Setup) -> tuple[BaseProcess, Connection]:
    """A worker, and the pipe to it."""
    context = context_for(setup.device)
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_alone, args=(theirs, setup), daemon=True)  # type: ignore[attr-defined]
    try:
        with stops_held_back():
            process.start()
    except BaseException:
        ours.close()  # by which a worker that was started ends
        raise
    finally:
        theirs.close()
    return process, ours


def context_for(device: str) -> BaseContext:
    """Workers are forked from a process that has made their imports once; for CUDA, which survives no fork, they are spawned."""
    if device.startswith("cuda"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.harness.run.worker"])
    return context


def serve_alone(pipe: Connection, setup: Setup) -> None:
    """The process's main function."""
    from bench.harness.run.worker import serve  # inside: imports what measures, seconds that the runner need not wait for

    serve(pipe, setup)
