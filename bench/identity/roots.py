"""Where the code of a cell begins: its strategy's class, the recipes of the shared parts that it uses, and the draws of its request."""

import ast
from collections.abc import Iterable
from pathlib import Path

from bench.identity.canonical import dotted
from bench.identity.modules import Module, read_module
from bench.identity.reach import code_hash
from bench.identity.resolve import Definition
from bench.identity.sources import source_of

DECORATOR = "register"
RECIPES = "bench.training.recipes"
DRAWS = ("bench.diffusion.draws", "SeededDraws")  # makes every image, though strategies only see the protocol


def strategy_hash(strategy: str | Path, assets: Iterable[str]) -> str:
    """Of a built-in strategy's module or a plug-in's file, with the shared parts that it uses, those that these need among them."""
    module = _module(strategy)
    return code_hash([*_registered(module), *(_recipe(name) for name in sorted(assets)), defined(*DRAWS)])


def recipe_hash(asset: str) -> str:
    """Of how one shared part is built and trained, without those that it needs."""
    return code_hash([_recipe(asset)])


def defined(module: str, name: str) -> Definition:
    """A definition of a module of the project; LookupError where there is none."""
    path = source_of(module)
    if path is None or name not in read_module(module, path).definitions:
        raise LookupError(f"no {name} in {module}")
    return Definition(module, path, name)


def _module(strategy: str | Path) -> Module:
    if isinstance(strategy, Path):
        return read_module("", strategy)
    path = source_of(strategy, (strategy.split(".")[0],))
    assert path is not None, f"no source for {strategy}"
    return read_module(strategy, path)


def _recipe(asset: str) -> Definition:
    return defined(f"{RECIPES}.{asset}", "RECIPE")


def _registered(module: Module) -> list[Definition]:
    """The classes under `@register`; the whole module where none is found, as a class may be registered by a call."""
    names = [name for name, statements in module.definitions.items() if any(map(_is_registered, statements))]
    return [Definition(module.name, module.path, name) for name in names or [""]]


def _is_registered(statement: ast.stmt) -> bool:
    decorators = statement.decorator_list if isinstance(statement, ast.ClassDef) else []
    return any((parts := dotted(decorator)) is not None and parts[-1] == DECORATOR for decorator in decorators)
