"""A module taken apart without running it: its definitions by name, and what it imports under which names."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bench.identity.sources import tree_of


@dataclass(frozen=True, slots=True)
class Imported:
    """What an imported name stands for: a module, or a name inside it."""

    module: str
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Module:
    """`definitions` are the statements that bind a top-level name; those that bind none stand there too, as `@0`, `@1`, ...

    `imports` says what each imported name may stand for, wherever in the file it is imported, `loads` which modules are imported for it.
    """

    name: str
    path: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    imports: dict[str, list[Imported]] = field(default_factory=lambda: defaultdict(list))
    loads: list[str] = field(default_factory=list)

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@cache
def read_module(name: str, path: Path) -> Module:
    """The module of a file; `name` resolves its relative imports."""
    module = Module(name, path)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            _add_import(module, node)
    for statement in tree_of(path).body:
        _add(module, statement)
    return module


def _add(module: Module, statement: ast.stmt) -> None:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            module.definitions[name].append(statement)
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case _:
            for name in set(_bound(statement)) or {f"@{len(module.definitions)}"}:
                module.definitions[name].append(statement)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement other than an import binds, however deep."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def _add_import(module: Module, node: ast.Import | ast.ImportFrom) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            module.loads.append(alias.name)
            bound = alias.name if alias.asname else alias.name.split(".")[0]  # `import a.b` binds `a`
            module.imports[alias.asname or bound].append(Imported(bound))
        return
    origin = _origin(module, node)
    module.loads.append(origin)
    for alias in node.names:
        module.loads.append(f"{origin}.{alias.name}")
        module.imports[alias.asname or alias.name].append(Imported(origin, alias.name))


def _origin(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of the module that a `from` names."""
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    parent = parts[: len(parts) - node.level + 1]
    return ".".join([*parent, *([node.module] if node.module else [])])
