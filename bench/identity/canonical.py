"""A definition as text that says what it does: without comments, docstrings, annotations and cards, and without the names of what it uses.

The text is the same in every version of Python: fields that are empty, or that only some versions have, are left out.
"""

import ast
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

LEFT_OUT = {"ctx", "kind", "type_comment", "type_params", "annotation", "returns", "simple"}
SEARCHES = {"__subclasses__", "__init_subclass__"}  # methods that find code by other means than its name
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Uses(Generic[T]):
    """What a dotted name stands for: `targets` outside of its definition, and the text that takes its place."""

    targets: tuple[T, ...]
    text: str


@dataclass
class Canonical(Generic[T]):
    """Writes statements of one module. `targets` are what their names stand for, in the order of the text.

    `find` says what a dotted name, given as its parts, stands for, None for a builtin; `everything` is the target of code that is found by
    search.
    """

    find: Callable[[tuple[str, ...]], Uses[T] | None]
    everything: T
    targets: list[T] = field(default_factory=list)
    _locals: list[set[str]] = field(default_factory=list)

    def definition(self, statement: ast.stmt) -> str:
        """A top-level statement, without the name that it binds where that is a single one."""
        match statement:
            case ast.Assign(targets=[ast.Name()]) | ast.AnnAssign(target=ast.Name()):
                return self._node(statement, without={"targets", "target"})
            case _:
                return self._node(statement, without={"name"})

    def _node(self, node: ast.AST, without: Collection[str] = ()) -> str:
        if isinstance(node, ast.Import | ast.ImportFrom):
            return "Import"  # what is used of it is written where it is used
        if isinstance(node, ast.Name | ast.Attribute) and (text := self._reference(node)) is not None:
            return text
        if isinstance(node, ast.Attribute | ast.FunctionDef) and getattr(node, "attr", getattr(node, "name", None)) in SEARCHES:
            self.targets.append(self.everything)
        if isinstance(node, FUNCTIONS):
            return self._function(node, without)
        return self._written(node, dict(_fields(node)), without)

    def _function(self, node: ast.AST, without: Collection[str]) -> str:
        """Decorators and defaults are evaluated outside, where the function's own names hide nothing."""
        fields = dict(_fields(node))
        arguments = fields.pop("args")
        assert isinstance(arguments, ast.arguments)
        outside = {"decorator_list": fields.pop("decorator_list", []), "defaults": arguments.defaults, "kw_defaults": arguments.kw_defaults}
        around = self._written(node, outside, without)
        inside = {name: value for name, value in ast.iter_fields(arguments) if name not in outside}
        self._locals.append(_local_names(node))
        text = self._written(node, {**inside, **fields}, without)
        self._locals.pop()
        return f"{around}{text}"

    def _written(self, node: ast.AST, fields: Mapping[str, object], without: Collection[str]) -> str:
        parts = [f"{name}={self._value(value)}" for name, value in fields.items() if name not in without and not _is_empty(value)]
        return f"{type(node).__name__}({','.join(parts)})"

    def _value(self, value: object) -> str:
        if isinstance(value, ast.AST):
            return self._node(value)
        if isinstance(value, list):
            return f"[{','.join(map(self._value, value))}]"
        return repr(value)

    def _reference(self, node: ast.Name | ast.Attribute) -> str | None:
        parts = dotted(node)
        if parts is None or any(parts[0] in names for names in self._locals):
            return None
        uses = self.find(parts)
        if uses is None:
            return None
        self.targets += uses.targets
        return uses.text


def is_card(statement: ast.stmt) -> bool:
    """The `card` of a class, which says which cells there are and what is claimed of them, not what happens in one."""
    return isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.target.id == "card"


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    for name, value in ast.iter_fields(node):
        if name in LEFT_OUT:
            continue
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            value = [s for s in node.body if not _does_nothing(s) and not (isinstance(node, ast.ClassDef) and is_card(s))]
        yield name, value


def _is_empty(value: object) -> bool:
    return value is None or value == []


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def dotted(node: ast.expr) -> tuple[str, ...] | None:
    """`a.b.c` where it is read, as parts."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        inner = dotted(node.value)
        return None if inner is None else (*inner, node.attr)
    return (node.id,) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else None


def _local_names(function: ast.AST) -> set[str]:
    """Names that a function binds for itself, which hide the module's: parameters, and what is assigned outside of scopes inside it.

    Names bound otherwise (by a pattern, a comprehension) hide nothing: that makes a reference too many, never one too few.
    """
    names: set[str] = set()
    shared: set[str] = set()
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        match node:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Global(names=of_module):
                shared.update(of_module)
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
        waiting += ast.iter_child_nodes(node)
    return names - shared
