"""The cluster engine on a real cluster of three nodes, one of which dies: the same records as the local engine's."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from bench.harness.plan.cells import Options, plan
from bench.harness.run.dispatch import Claimed, Desk, Drive
from bench.harness.run.engines.ray import RayEngine
from bench.harness.run.messages import CellJob, Setup
from bench.harness.run.progress import Display
from bench.harness.run.session import RunOutcome, run
from bench.registry import discover
from bench.suites.suite import load
from bench.values import Status, UserError
from tests.conftest import TINY_SUITE
from tests.house.test_suite_and_registry import PLUGIN
from tests.run.test_drive import no_bar

pytest.importorskip("ray", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.timeout(1200)
CPU = torch.device("cpu")
STEPS = "{ steps = 2 }, { steps = 3 }, { steps = 4 }, { steps = 5 }, { steps = 6 }, { steps = 8 }"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and two nodes of one processor each, all on this machine; the last test takes one away."""
    from ray.cluster_utils import Cluster

    of_each = {"num_cpus": 1, "object_store_memory": 80_000_000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={**of_each, "include_dashboard": False})
        for _ in range(2):
            started.add_node(**of_each)
        started.wait_for_nodes()
        yield started
        started.shutdown()


def suite_file(folder: Path) -> Path:
    path = folder / "tiny.toml"
    path.write_text(TINY_SUITE.replace("{ steps = 2 }, { steps = 4 }", STEPS))
    return path


def ran(folder: Path, root: Path, **engine: Any) -> RunOutcome:
    suite = load(str(suite_file(folder)))
    display = Display(Console(quiet=True))
    return run(suite, discover(), Options(), root=root, device=CPU, max_minutes=None, display=display, **engine)


def said(root: Path) -> dict[str, Any]:
    """What each record says apart from time, energy and memory."""
    found = {}
    for path in root.glob("tiny/*/records/*.json"):
        record = json.loads(path.read_bytes())
        found[path.stem] = record["status"], record["scores"], record["sample"]["nfe_per_image"], record["sample"]["flops_per_image"]
    return found


def test_no_cluster_is_one_line() -> None:
    setup = Setup(device="cpu", options=Options(), assets=Path("a"), store=Path("s"))
    with pytest.raises(UserError, match="no Ray cluster at"):
        RayEngine(setup, "127.0.0.1:1")


@pytest.mark.parametrize(
    ("name", "fault", "limit_s", "status"),
    [("dies", "import os; os.kill(os.getpid(), 9)", 300.0, Status.KILLED), ("hangs", "import time; time.sleep(600)", 20.0, Status.TIMEOUT)],
    ids=["dies", "hangs"],
)
def test_a_worker_that_dies_or_hangs_is_no_lost_node(
    cluster: Any, tmp_path: Path, name: str, fault: str, limit_s: float, status: Status
) -> None:
    """As with the local engine: killed, or timed out, and not tried again elsewhere."""
    plugin = tmp_path / f"{name}.py"
    plugin.write_text(PLUGIN.replace("return kit.denoiser()", fault))
    options = Options(plugins=(plugin,), only=(f"user.{name}",))
    [cell] = plan(load(str(suite_file(tmp_path))), discover(options.plugins), options).cells
    setup = Setup(device="cpu", options=options, assets=tmp_path / "assets", store=tmp_path / "store")
    desk = Desk(claim=lambda _: Claimed.MINE, limit=lambda _: limit_s, bar=no_bar)
    engine = RayEngine(setup, cluster.address)
    try:
        [ended] = Drive(engine, desk).over([[CellJob(cell)]])
    finally:
        engine.close()
    assert ended.outcome is not None and ended.outcome.status is status


def test_a_cluster_that_loses_a_node_makes_the_same_records(cluster: Any, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    victim = next(iter(cluster.worker_nodes))

    def kill_once_under_way() -> None:
        end = time.monotonic() + 300
        while not said(there) and time.monotonic() < end:
            time.sleep(0.1)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill_once_under_way)
    killer.start()
    outcome = ran(tmp_path, there, engine=lambda setup: RayEngine(setup, cluster.address))
    killer.join()
    assert (outcome.ok, outcome.failed, outcome.not_started) == (7, 0, 0)
    local = ran(tmp_path, here)
    assert local.ok == 7
    assert said(there) == said(here)
