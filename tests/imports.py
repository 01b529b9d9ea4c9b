"""All that a run imports, for the process that runs are forked from."""

import importlib

from bench.registry import discover

for name in (
    "bench.cli",
    "bench.harness.run",
    "bench.harness.worker",
    "bench.report.page",
    "bench.report.tables",
    "itables",
    "matplotlib.backends.backend_svg",
    "sklearn.datasets",
):
    importlib.import_module(name)
discover()
