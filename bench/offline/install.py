"""A bundle on the machine that it was made for: verified, its wheels installed beside it, and told what the machine lacks.

Runs before anything is installed: standard library alone, until the wheels are in.
"""

import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.values import UserError

MANIFEST = "MANIFEST.json"
WHEELS, SITE = "wheels", "site"
NAMED = 3  # faulty files that a message names


def fingerprint(content: bytes) -> dict[str, int | str]:
    """What a manifest says of a file: its length in bytes and its SHA-256."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, once every file that it lists is there and whole; else a `UserError` that names what is not."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        faults = faulty(folder, manifest["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"unreadable {MANIFEST}: copy the bundle again ({type(error).__name__}: {error})") from error
    if faults:
        others = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise UserError(f"{', '.join(faults[:NAMED])}{others}: copy the bundle again")
    return manifest


def faulty(folder: Path, files: Mapping[str, Any]) -> list[str]:
    """`NAME is missing` or `NAME is damaged` of each file that is not as listed."""
    found = []
    for name, listed in files.items():
        try:
            if fingerprint((folder / name).read_bytes()) != listed:
                found.append(f"{name} is damaged")
        except OSError:
            found.append(f"{name} is missing")
    return found


def install(folder: Path) -> None:
    """The wheels into a folder of their own beside them, whole or not at all; nothing where it is there already."""
    wheels, site, part = sorted((folder / WHEELS).glob("*.whl")), folder / SITE, folder / f"{SITE}.part"
    if site.is_dir() or not wheels:
        return
    shutil.rmtree(part, ignore_errors=True)  # of an install that was interrupted
    into = ("--target", str(part), "--find-links", str(folder / WHEELS))
    try:
        pip("install", "--isolated", "--no-cache-dir", "--no-index", "--no-deps", "--no-compile", *into, *map(str, wheels))
        part.rename(site)
    except (UserError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)  # gives the room back
        raise UserError(f"the wheels cannot be installed into {site}: {error}") from error


def pip(*words: str) -> None:
    """Run this interpreter's pip; a failure is a `UserError` with the line in which pip says why."""
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")] or lines
        raise UserError(f"pip: {said[-1]}")


def lacking(requires: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of these requirements the names of packages that are not here, and `NAME VERSION, wanted SPECIFIER` of those too old."""
    from packaging.requirements import Requirement  # inside: may have come with the wheels

    absent, old = [], []
    for need in map(Requirement, requires):
        try:
            found = version(need.name)
        except PackageNotFoundError:
            absent.append(need.name)
            continue
        if not need.specifier.contains(found, prereleases=True):
            old.append(f"{need.name} {found}, wanted {need.specifier}")
    return absent, old


def prepare(folder: Path) -> None:
    """All that comes before the run. A package that is absent is a `UserError`; one that is too old may do, and is only told."""
    manifest = manifest_of(folder)
    install(folder)
    importlib.invalidate_caches()  # the folder of the wheels was on the path before it was there
    absent, old = lacking(manifest["requires"])
    if absent:
        more = " ".join(f"--wheel {name}" for name in absent)
        raise UserError(f"this machine lacks {', '.join(absent)}, and so does the bundle: bundle again with {more}")
    for fault in old:
        print(f"run.sh: goes on with an old {fault}", file=sys.stderr)


def main() -> None:
    try:
        prepare(Path.cwd())
    except UserError as error:
        print(f"run.sh: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
