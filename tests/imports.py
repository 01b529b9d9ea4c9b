"""All that a run imports, for the process that runs are forked from."""

import importlib

from bench.registry import discover

for name in (
    "bench.cli.main",
    "bench.harness.run.session",
    "bench.harness.run.worker",
    "bench.report.page.write",
    "bench.report.leaderboard.terminal",
    "itables",
    "matplotlib.backends.backend_svg",
    "sklearn.datasets",
):
    importlib.import_module(name)
discover()
