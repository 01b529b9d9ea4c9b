"""How long a command takes that computes nothing, against the bare interpreter. Printed."""

import subprocess
import sys

import torch

from tests.performance.ratios import compare


def test_help_against_a_bare_interpreter() -> None:
    def started(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    ours, theirs = (lambda: started("-m", "bench", "--help")), (lambda: started("-c", ""))
    compare("the interpreter alone against `bench --help`", ours, theirs, torch.device("cpu"), "help within 0.5 s on an idle machine")
