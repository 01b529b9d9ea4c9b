"""Ray as the cluster engine: one actor a slot, on a GPU of its own; records go to a folder that all nodes see.

Needs the extra `cluster`. An actor whose node is gone has lost its job, which may run elsewhere; one that dies on a node that lives has
killed it.
"""

import socket
import time
from pathlib import Path
from typing import Any

from bench.harness.run.engine import News
from bench.harness.run.messages import Done, Job, Lost, Message, Refused, Setup, Tick
from bench.values import Status, UserError

START_S = 300.0  # for an actor to find a place and to import torch
REACH_S = 10.0  # within which a cluster's head answers; Ray itself would try for minutes
NODE_S = 30.0  # within which Ray notices that a node is gone
GLANCE_S = 0.2  # between two looks at the progress


class Hand:
    """The actor: a worker's workshop, and its last word of progress for who asks meanwhile."""

    def __init__(self, setup: Setup) -> None:
        from bench.harness.run.worker import Workshop  # inside: imports torch, where the actor runs

        self._tick: Tick | None = None
        self._workshop = Workshop(setup, self._note)

    def _note(self, tick: Tick) -> None:
        self._tick = tick

    def node(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def do(self, job: Job) -> Done | Refused:
        return self._workshop.do(job)

    def progress(self) -> Tick | None:
        return self._tick


class RayEngine:
    """A slot for each GPU of the cluster, or on CPUs for each node. Raises UserError without Ray, or where no cluster answers."""

    def __init__(self, setup: Setup, address: str | None = None) -> None:
        self._ray = _imported()
        _reach(address)
        try:
            self._ray.init(address=address, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from error
        self._setup = Setup(device=setup.device, options=setup.options, assets=_absolute(setup.assets), store=_absolute(setup.store))
        self._gpus = 1 if setup.device.startswith("cuda") else 0
        self._actors: list[Slot] = [Slot() for _ in range(self._places())]

    @property
    def slots(self) -> int:
        return len(self._actors)

    def submit(self, slot: int, job: Job, limit_s: float) -> None:
        """Begin a job; an actor that has to be made finds its place first, and the limit counts from then."""
        actor = self._actors[slot]
        if actor.handle is None:
            hand = self._ray.remote(Hand).options(
                num_gpus=self._gpus, num_cpus=1, max_concurrency=2, max_restarts=0, scheduling_strategy="SPREAD"
            )
            actor.handle = hand.remote(self._setup)
            actor.node = None
        actor.reference = actor.handle.do.remote(job)
        actor.limit_s, actor.end = limit_s, time.monotonic() + limit_s + (0 if actor.node else START_S)
        actor.asked = None if actor.node else actor.handle.node.remote()

    def wait(self, timeout_s: float) -> News | None:
        until = time.monotonic() + timeout_s
        while True:
            busy = {actor.reference: slot for slot, actor in enumerate(self._actors) if actor.reference is not None}
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=min(GLANCE_S, max(0.0, until - time.monotonic())))
            if ready:
                slot = busy[ready[0]]
                return News(slot=slot, message=self._ended(self._actors[slot]))
            for slot in busy.values():
                news = self._glance(slot)
                if news is not None:
                    return news
            if time.monotonic() >= until:
                return None

    def cancel(self, slot: int) -> None:
        self._drop(self._actors[slot])

    def close(self) -> None:
        for actor in self._actors:
            self._drop(actor)
        self._ray.shutdown()

    def _places(self) -> int:
        """GPUs, or living nodes with a CPU."""
        if self._gpus:
            count = int(self._ray.cluster_resources().get("GPU", 0))
        else:
            count = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in self._ray.nodes())
        if count == 0:
            raise UserError("the Ray cluster has no " + ("GPU" if self._gpus else "CPU"))
        return count

    def _ended(self, actor: "Slot") -> Message:
        reference, actor.reference = actor.reference, None
        try:
            message: Message = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._drop(actor)
            said = str(error).strip().splitlines()[0]
            return Lost(said) if self._gone(actor.node) else Done(Status.KILLED, f"the worker process died: {said}")
        if isinstance(message, Done) and message.status is not Status.OK:
            self._drop(actor)  # a fresh process, so that one cell's fault cannot colour the next
        return message

    def _glance(self, slot: int) -> News | None:
        """Progress, or the end of a job that has run past its limit."""
        actor = self._actors[slot]
        if actor.asked is not None:
            ready, _ = self._ray.wait([actor.asked], timeout=0)
            if ready:
                actor.node, actor.asked, actor.end = self._said(actor.asked), None, time.monotonic() + actor.limit_s
        if time.monotonic() >= actor.end:
            placed = actor.node is not None
            self._drop(actor)
            late, homeless = "ran past its time limit and was ended", f"no place in the cluster within {START_S:.0f} s"
            return News(slot=slot, message=Done(Status.TIMEOUT, late) if placed else Lost(homeless))
        if actor.node and actor.glance is None:
            actor.glance = actor.handle.progress.remote()
        elif actor.glance is not None and self._ray.wait([actor.glance], timeout=0)[0]:
            tick, actor.glance = self._said(actor.glance), None
            if tick is not None and tick != actor.shown:
                actor.shown = tick
                return News(slot=slot, message=tick)
        return None

    def _said(self, reference: Any) -> Any:
        """What an actor answered; None from one that is dying, which its job will tell."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError:
            return None

    def _gone(self, node: str | None) -> bool:
        """Whether a node has left the cluster, or leaves it within the time that Ray needs to notice; none at all is no better."""
        end = time.monotonic() + NODE_S
        while node is not None and any(n["NodeID"] == node and n["Alive"] for n in self._ray.nodes()):
            if time.monotonic() >= end:
                return False
            time.sleep(GLANCE_S)
        return True

    def _drop(self, actor: "Slot") -> None:
        if actor.handle is not None:
            self._ray.kill(actor.handle)
        actor.handle = actor.reference = actor.asked = actor.glance = None


class Slot:
    """An actor and its present job: `asked` is where it runs, `glance` its progress, both until they are answered."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.node: str | None = None
        self.reference: Any = None
        self.asked: Any = None
        self.glance: Any = None
        self.shown: Tick | None = None
        self.limit_s = self.end = 0.0


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError("the engine ray needs the extra `cluster`: pip install 'efficient-diffusion-bench[cluster]'") from error
    return ray


def _reach(address: str | None) -> None:
    """Raises UserError where nobody listens at `HOST:PORT`; what names no port is Ray's to understand."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}") from error


def _absolute(path: Path) -> Path:
    """Actors run in folders of their own."""
    return path.resolve()
