"""Which wheels a machine with torch and without network lacks, and where they come from: pip."""

import re
import tomllib
from collections.abc import Iterable, Sequence, Set
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bench.metrics.source import sources
from bench.offline.install import pip
from bench.values import UserError

PROJECT = "efficient-diffusion-bench"
ASSUMED = frozenset({"torch", "torchvision", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "matplotlib", "pillow"})
UNUSED = frozenset({"diffusers", "authlib", "joserfc", "questionary"})  # of use to the tests, and to codecarbon's own commands
ANYWHERE = "-none-any.whl"
GLIBC_MINOR = range(5, 29)  # up to glibc 2.28, which torch's own wheels ask for; pip takes each by name and prefers the first


def python_version(text: str) -> str:
    """`3.12` as given; anything but a version that the project runs on is a `UserError`."""
    if not (re.fullmatch(r"3\.\d+", text) and int(text[2:]) >= 11):
        raise UserError(f"--python takes a version like 3.12, from 3.11 on, not '{text}'")
    return text


def requirement(text: str) -> Requirement:
    """`NAME` or `NAME==VERSION`."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        raise UserError(f"--wheel takes NAME or NAME==VERSION, not '{text}'") from None


def direct(python: str, extractors: Iterable[str]) -> list[Requirement]:
    """What a run with these extractors needs of what the project asks for."""
    unused = UNUSED.union(*(source.packages for name, source in sources().items() if name not in extractors))
    return [need for need in map(Requirement, _asked()) if _applies(need, python) and canonicalize_name(need.name) not in unused]


def _asked() -> Iterable[str]:
    """The project's dependencies: of a checkout as they stand there, which may be later than its installation, else as installed."""
    pyproject = Path(str(files("bench"))).with_name("pyproject.toml")
    if pyproject.is_file() and (project := tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})).get("name") == PROJECT:
        return list(project["dependencies"])
    try:
        return distribution(PROJECT).requires or ()
    except PackageNotFoundError:
        raise UserError(f"{PROJECT} is not installed here, so its needs are unknown: pip install it") from None


def closure(roots: Iterable[Requirement], python: str, cut: Set[str]) -> dict[str, Requirement]:
    """These packages and all that they need, pinned to the versions installed here, by canonical name; `cut` names are not followed.

    What is not installed here, as only the other Python needs it, is left to pip to choose.
    """
    found: dict[str, Requirement] = {}
    waiting = list(roots)
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if name in cut or name in UNUSED or name in found or not _applies(need, python):
            continue
        try:
            here = distribution(name)
        except PackageNotFoundError:
            found[name] = Requirement(f"{name}{need.specifier}")
            continue
        found[name] = Requirement(f"{name}=={here.version}")
        waiting += map(Requirement, here.requires or ())
    return dict(sorted(found.items()))


def chosen(roots: Iterable[Requirement], python: str, have: Iterable[str], named: Iterable[Requirement]) -> list[Requirement]:
    """What is to be fetched: what the roots need beyond what every machine with torch has and this one has, and what is named."""
    cut = ASSUMED.union(map(canonicalize_name, have))
    by_name: dict[str, Requirement] = dict(closure(roots, python, cut))
    by_name.update((canonicalize_name(need.name), need) for need in named)
    return list(by_name.values())


def fetch(wanted: Sequence[Requirement], python: str, folder: Path) -> list[Path]:
    """Wheels of these packages, without their needs, for this CPython on Linux x86-64.

    A package that is published as source alone becomes a wheel here, if it is one for any machine; otherwise a `UserError`.
    """
    if not wanted:
        return []
    names = ("manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in GLIBC_MINOR))
    target = ("--implementation", "cp", "--python-version", python, *(word for name in names for word in ("--platform", name)))
    pip("download", "--no-deps", "--prefer-binary", *target, "--dest", str(folder), *map(str, wanted))
    fetched = set(folder.glob("*.whl"))
    for source in [path for path in folder.iterdir() if path not in fetched]:
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
        source.unlink()
    foreign = sorted(path.name for path in set(folder.glob("*.whl")) - fetched if not path.name.endswith(ANYWHERE))
    if foreign:
        raise UserError(f"no wheels for Python {python}: built here from source, {', '.join(foreign)} would not run there")
    return sorted(folder.glob("*.whl"))


def _applies(need: Requirement, python: str) -> bool:
    """Whether a requirement holds on the other machine: its Python, Linux x86-64, no extras."""
    there = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
        "extra": "",
    }
    return need.marker is None or need.marker.evaluate(there)
