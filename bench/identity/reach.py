"""The identity of code: a hash of the definitions that some of them reach, whatever the names of modules and wherever they stand.

From a class or function on, each name that a definition uses is followed to the definition that it stands for, through imports and the
attributes of modules, and each is written with numbers in place of names (`bench.identity.canonical`). So a definition that nobody uses, a
module renamed, a definition moved or a comment changes nothing. What a static reading cannot follow is included, never missed:

- a module that is used other than as `module.name`, by `getattr(module, name)` say: all its definitions;
- code found by search (`import_module`, `globals`, `eval`, `__subclasses__`, ...): all definitions of the project;
- what runs when a module is imported: statements that bind no name, definitions under a decorator of the project, constants made by a call
  of the project's functions. Those of every module that is imported along the way are included;
- a dictionary or an enum that is looked up by a key: all its members. A method that is called: its whole class, which is reached where the
  object is made, although nothing says whose method it is;
- where a definition reads `__name__` or `__qualname__`: the names of all definitions reached.

Cards, values, the contract and the registry hold no arithmetic, and a name of theirs is followed no further. Neither are installed
libraries: their versions stand in a record's provenance.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.identity.canonical import Canonical, dotted
from bench.identity.modules import Module, read_module
from bench.identity.resolve import BOOKKEEPING, EVERYTHING, Definition, find, packages_of
from bench.identity.sources import project_imports, project_sources, source_of, tree_of

NAMING = ("__name__", "__qualname__")


@dataclass(frozen=True, slots=True)
class Written:
    """What a definition does, as text, and what it uses, in the order in which the text does."""

    text: str
    uses: tuple[Definition, ...]


def code_hash(roots: Iterable[Definition]) -> str:
    """First 16 hex digits of the hash of all that the roots reach; the order of the roots matters."""
    reached = list(dict.fromkeys(roots))
    _follow(reached)
    reached += sorted(set(_effects(reached)) - set(reached), key=lambda effect: written(effect).text)
    lines = _follow(reached)
    if any(name in line for line in lines for name in NAMING):
        lines += sorted(definition.name for definition in reached)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _follow(reached: list[Definition]) -> list[str]:
    """The text of each definition with the numbers of what it uses. What is used joins `reached`, in the order in which it is met."""
    number = {definition: k for k, definition in enumerate(reached)}
    lines = []
    for definition in reached:  # grows on the way
        found = written(definition)
        for used in found.uses:
            if used not in number:
                number[used] = len(number)
                reached.append(used)
        lines.append(f"{found.text} {[number[used] for used in found.uses]}")
    return lines


@cache
def written(definition: Definition) -> Written:
    if definition.path is None:
        return _all("project", (Definition(name, path) for name, path in project_sources()))
    module = read_module(definition.module, definition.path)
    if not definition.name:
        return _all("module", (Definition(module.name, module.path, name) for name in module.definitions))
    writer = Canonical(lambda parts: find(module, parts), EVERYTHING)
    text = "\n".join(writer.definition(statement) for statement in module.definitions[definition.name])
    return Written(text, tuple(writer.targets))


def _all(text: str, definitions: Iterable[Definition]) -> Written:
    return Written(text, tuple(sorted(definitions, key=lambda definition: written(definition).text)))


def _effects(reached: Iterable[Definition]) -> Iterator[Definition]:
    """What runs while the modules of these definitions are imported, and the modules that those import."""
    waiting = [(d.module, d.path) for d in reached if d.path is not None]
    seen = set[Path]()
    for name, path in waiting:  # grows on the way
        if path in seen or name in BOOKKEEPING:
            continue
        seen.add(path)
        module = read_module(name, path)
        yield from _run_by(module)
        waiting += _loaded_by(module)


@cache
def _loaded_by(module: Module) -> list[tuple[str, Path]]:
    """Modules whose code is followed that an import of this one loads, packages around them among them."""
    names = {".".join(parts[: k + 1]) for load in (module.name, *module.loads) for parts in [load.split(".")] for k in range(len(parts))}
    found = ((name, source_of(name, packages_of(module.name))) for name in sorted(names))
    return [(name, path) for name, path in found if path is not None]


@cache
def _run_by(module: Module) -> tuple[Definition, ...]:
    names = [name for name, statements in module.definitions.items() if name.startswith("@") or any(_acts(module, s) for s in statements)]
    return tuple(Definition(module.name, module.path, name) for name in names)


def _acts(module: Module, statement: ast.stmt) -> bool:
    """Whether a definition may do something when it is read: under a decorator of the project, or by a call of the project's functions."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        calls = [d.func if isinstance(d, ast.Call) else d for d in statement.decorator_list]
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    else:
        return True
    return any(_is_of_project(module, call) for call in calls)


def _is_of_project(module: Module, call: ast.expr) -> bool:
    """A function of the project, or a method of an object of its; a class that is called makes a value and does no more."""
    parts = dotted(call)
    uses = find(module, parts) if parts else None
    return uses is not None and any(not _is_class(target) for target in uses.targets)


def _is_class(definition: Definition) -> bool:
    if definition.path is None or not definition.name:
        return False
    return isinstance(read_module(definition.module, definition.path).definitions[definition.name][0], ast.ClassDef)


def forget() -> None:
    """Read all files again, as a new process does."""
    for cached in (source_of, tree_of, project_imports, read_module, written, _loaded_by, _run_by):
        cached.cache_clear()
