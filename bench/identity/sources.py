"""Where source code stands: the file of a module, its syntax tree, what it imports. Static: nothing is imported."""

import ast
import sys
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PROJECT = ("bench", "strategies")


@cache
def source_of(module: str, packages: tuple[str, ...] = PROJECT) -> Path | None:
    """The file of a module of these packages or of the user's; None for a package without code, a name inside a module, a library."""
    top, *rest = module.split(".")
    for root in _roots(top, packages):
        for path in (root.joinpath(*rest).with_suffix(".py"), root.joinpath(*rest, "__init__.py")):
            if path.is_file():
                return path
    return None


def _roots(top: str, packages: tuple[str, ...]) -> tuple[Path, ...]:
    """Paths that stand for the top-level name: its folder, or the name without the ending of a module's file."""
    if top in packages:
        spec = find_spec(top)
        if spec is not None:
            return tuple(Path(place) for place in spec.submodule_search_locations or ([spec.origin] if spec.origin else ()))
    return tuple(Path(place, top) for place in _user_places())


def _user_places() -> list[str]:
    """Entries of the import path that hold no installed libraries: the user's own modules, found by `PYTHONPATH` say."""
    libraries = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = {entry: Path(entry or ".").resolve() for entry in sys.path}
    return [entry for entry, folder in folders.items() if not any(_holds(library, folder) for library in libraries)]


def _holds(library: Path, folder: Path) -> bool:
    return folder.is_relative_to(library) or not {"site-packages", "dist-packages"}.isdisjoint(folder.parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def project_imports(path: Path, everything: bool = False) -> tuple[str, ...]:
    """Dotted names that a file imports from this project, or from anywhere."""
    names: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if everything or name.split(".")[0] in PROJECT)


def project_sources() -> list[tuple[str, Path]]:
    """All modules of the project with their files."""
    found = []
    for package in PROJECT:
        for root in _roots(package, PROJECT):
            for path in sorted(root.rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                found.append((".".join((package, *(part for part in parts if part != "__init__"))), path))
    return found
