"""What a name in a module stands for: a definition, there or in another module, a whole module, or a library's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.identity.canonical import Uses
from bench.identity.modules import Imported, Module, read_module
from bench.identity.sources import PROJECT, source_of

BOOKKEEPING = {"bench.measures", "bench.values", "bench.cards", "bench.contract", "bench.registry", "bench.hints"}
SEARCHES = {"globals", "eval", "exec", "compile", "__import__"}  # builtins that find code by other means than its name
SEARCHERS = ("importlib.", "pkgutil.", "runpy.", "builtins.", "sys.modules")  # and libraries


@dataclass(frozen=True, slots=True)
class Definition:
    """A top-level name of a module. The empty name stands for all of them, and no path for those of the whole project.

    The module's name serves its imports; it is empty for a plug-in's file, which belongs to no package.
    """

    module: str = ""
    path: Path | None = None
    name: str = ""


EVERYTHING = Definition()


def find(module: Module, parts: tuple[str, ...]) -> Uses[Definition] | None:
    """What the dotted name means in the module; None for a builtin, or a name that is bound where this reading does not look."""
    found = _named(module, parts)
    if found:
        return found
    return Uses((EVERYTHING,), ".".join(("#", *parts))) if parts[0] in SEARCHES else None


def packages_of(module: str) -> tuple[str, ...]:
    """The packages whose code is followed from a module: the project's and its own."""
    return tuple(dict.fromkeys((*PROJECT, module.split(".")[0]))) if module else PROJECT


def _named(module: Module, parts: Sequence[str]) -> Uses[Definition] | None:
    head, *rest = parts
    found: list[Uses[Definition]] = []
    if head in module.definitions:
        found.append(Uses((Definition(module.name, module.path, head),), ".".join(("#", *rest))))
    found += [_imported(module, imported, rest) for imported in dict.fromkeys(module.imports.get(head, ()))]
    for star in module.imports.get("*", ()):
        path = source_of(star.module, packages_of(module.name))
        if path is not None and path != module.path and (uses := _named(read_module(star.module, path), parts)):
            found.append(uses)
    return _either(found) if found else None


def _imported(importer: Module, imported: Imported, rest: list[str]) -> Uses[Definition]:
    """The longest beginning of the dotted name that is a module whose code is followed, and what the rest means there."""
    names = [imported.name, *rest] if imported.name else rest
    for k in range(len(names), -1, -1):
        module = ".".join((imported.module, *names[:k]))
        path = source_of(module, packages_of(importer.name))
        if path is not None:
            return _inside(module, path, names[k:])
    text = ".".join((imported.module, *names))
    return Uses((EVERYTHING,) if text.startswith(SEARCHERS) else (), text)


def _inside(name: str, path: Path, rest: list[str]) -> Uses[Definition]:
    if name in BOOKKEEPING:
        return Uses((), ".".join(("=", *rest)))
    whole = Uses((Definition(name, path),), ".".join(("#", *rest)))
    return (rest and _named(read_module(name, path), rest)) or whole


def _either(found: Iterable[Uses[Definition]]) -> Uses[Definition]:
    """A name that is bound in several ways may mean each of them."""
    found = list(found)
    return Uses(tuple(target for uses in found for target in uses.targets), "|".join(uses.text for uses in found))
