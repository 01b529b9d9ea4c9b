"""The part of this machine's processor that this process may use."""

import os

THREADS = "OMP_NUM_THREADS"  # torch reads it as it is imported


def cores() -> int:
    """Those that the operating system lends to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """One for each of the cores, unless fewer were asked for."""
    asked = os.environ.get(THREADS, "")
    return min(cores(), int(asked)) if asked.isdecimal() and int(asked) else cores()
