"""What a record says of the machine and the software that made it."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

import torch

from bench.meters.processor import cores, threads
from bench.values import Provenance, UserError

PACKAGES = ("torch", "torchvision", "diffusers", "torch-fidelity", "codecarbon", "fvcore", "numpy")
TUNING = ("GLIBC_TUNABLES", "MALLOC_", "OMP_", "KMP_", "MKL_")


def pick_device(name: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one, or the CPU. One that is not there is a `UserError`."""
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"unknown device '{device}'; known: cpu, cuda, cuda:N")
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError("device cuda asked for, and this machine has no CUDA device that torch can use")
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """`NVIDIA H100 80GB HBM3`, `CPU AMD EPYC, 2 cores`, or, of one thread, `CPU AMD EPYC, 1 of 2 cores`.

    Ranks in time and energy never mix two of them.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    used = "" if threads() == cores() else f"{threads()} of "
    return f"CPU {_processor()}, {used}{cores()} cores"


def host() -> str:
    """A hash of the host's name: tells machines apart without naming them."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def system() -> str:
    """Also the settings of the allocator and of OpenMP that were given: a processor's times depend on them."""
    told = (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(TUNING))
    return ", ".join((f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}", *told))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


@lru_cache(maxsize=1)
def git_revision() -> str | None:
    """The commit, with `+` where files were changed; None outside a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words: str) -> str:
    root = Path(__file__).parent
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def provenance(device: torch.device, started: str, wall_s: float) -> Provenance:
    """Of what was begun at `started` and took `wall_s` seconds on this device."""
    return Provenance(
        device=device_name(device), host=host(), system=system(), versions=versions(), git=git_revision(), started=started, wall_s=wall_s
    )
