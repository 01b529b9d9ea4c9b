"""A hash of the code behind a cell: the syntax trees, without comments, docstrings and cards, of a module and of all that it imports here.

Static: nothing is imported. Values, cards, contract, registry and hints hold no arithmetic and are left out, so that bookkeeping reruns
nothing: a card says which cells there are and what is claimed of them, not what happens in one.
"""

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PROJECT = ("bench", "strategies")
BOOKKEEPING = {"bench.measures", "bench.values", "bench.cards", "bench.contract", "bench.registry", "bench.hints"}
ALWAYS = ("bench.diffusion.noise", "bench.data.datasets")  # shape every cell, though strategies do not import them


def code_hash(*modules: str | Path) -> str:
    """First 16 hex digits over the transitive closure of the modules (dotted names, or files of plug-ins)."""
    found: dict[str, Path] = {}
    for module in (*modules, *ALWAYS):
        path = module if isinstance(module, Path) else source_of(module)
        assert path is not None, f"no source for {module}"
        _collect(path.stem if isinstance(module, Path) else module, path, found)
    content = hashlib.sha256()
    for name in sorted(found):
        content.update(f"{name}\n{_stripped(found[name])}\n".encode())
    return content.hexdigest()[:16]


def source_of(module: str) -> Path | None:
    """The file of a project module, or None for a package without code, a name inside a module, or foreign code. Imports nothing."""
    top, *rest = module.split(".")
    if top not in PROJECT:
        return None
    for root in _roots(top):
        for path in (Path(root, *rest).with_suffix(".py"), Path(root, *rest, "__init__.py")):
            if path.is_file():
                return path
    return None


@cache
def _roots(package: str) -> tuple[str, ...]:
    spec = find_spec(package)
    return tuple(spec.submodule_search_locations or ()) if spec is not None else ()


def _collect(name: str, path: Path, found: dict[str, Path]) -> None:
    if name in found or name in BOOKKEEPING:
        return
    found[name] = path
    for imported in project_imports(path):
        source = source_of(imported)
        if source is not None:
            _collect(imported, source, found)


@cache
def project_imports(path: Path, everything: bool = False) -> tuple[str, ...]:
    """Dotted names that a file imports from this project, or from anywhere."""
    names: list[str] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if everything or name.split(".")[0] in PROJECT)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _stripped(path: Path) -> str:
    """The dump of a module's tree without docstrings and the `card` of a class; comments are not in a tree."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        if isinstance(node, ast.ClassDef):
            node.body = [statement for statement in node.body if not _is_card(statement)]
    return ast.dump(tree)


def _is_card(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.target.id == "card"
