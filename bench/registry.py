"""The strict registry of strategies, and their discovery: built-ins by path, entry points, plug-in files."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from bench.cards import Card, Params
from bench.contract import Strategy
from bench.hints import near
from bench.survey import BUILT_IN
from bench.values import COMPUTE, UserError

ENTRY_POINTS = "bench.strategies"
USER = "user"  # plug-in FILE.py registers as user.FILE
S = TypeVar("S", bound=type[Strategy[Any]])


class RegistryError(UserError):
    """A registration that breaks the rules; says which rule and where both sides stand."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A plug-in that could not be loaded, and why; the others go on without it."""

    origin: str
    reason: str


@dataclass
class Registry:
    """Strategy classes by name. The name of a built-in is its path: `eds.guidance.cfg`."""

    classes: dict[str, type[Strategy[Any]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def register(self, cls: S) -> S:
        """Class decorator. Refuses duplicates, classes without a card, and classes that are not frozen dataclasses' raw material."""
        name = cls.__module__.removeprefix(f"{BUILT_IN}.")
        if not (inspect.isclass(cls) and issubclass(cls, Strategy)):
            raise RegistryError(f"{name}: only subclasses of bench.contract.Strategy can be registered, not {cls!r}")
        if not (is_dataclass(cls) and cls.__dataclass_params__.frozen):  # type: ignore[attr-defined]
            raise RegistryError(f"{name}: decorate the class with @dataclass(frozen=True, kw_only=True) below @register")
        if any(f.name == COMPUTE for f in fields(cls)):
            raise RegistryError(f"{name}: no hyper-parameter can be named '{COMPUTE}', which says how networks are evaluated")
        if not isinstance(getattr(cls, "card", None), Card):
            raise RegistryError(f"{name}: the class needs a `card`, a bench.values.Card")
        if name in self.classes:
            raise RegistryError(f"'{name}' is registered twice: {origin(self.classes[name])} and {origin(cls)}")
        self.classes[name] = cls
        return cls

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.classes))

    def get(self, name: str) -> type[Strategy[Any]]:
        """The class of a name; an unknown name is a `UserError` that names its nearest neighbours."""
        if name not in self.classes:
            raise UserError(f"unknown strategy '{name}'{near(name, self.classes)}")
        return self.classes[name]

    def build(self, name: str, params: Params) -> Strategy[Any]:
        """An instance with these hyper-parameters; an unknown field or a refused value is a `UserError`."""
        cls = self.get(name)
        known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        for key in params:
            if key not in known:
                raise UserError(f"{name} has no hyper-parameter '{key}'{near(key, known)}")
        try:
            built: Strategy[Any] = TypeAdapter(cls).validate_python(dict(params))
        except ValidationError as error:
            raise UserError(f"{name}: {explain(error)}") from error
        return built


REGISTRY = Registry()
register = REGISTRY.register


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: `steps: must lie in 1..1000, not 0; eta: ...`."""
    parts = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(step) for step in fault["loc"])
        parts.append(f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, "))
    return "; ".join(parts)


def origin(cls: type) -> str:
    """file:line of a class."""
    try:
        return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return cls.__module__


def discover(plugins: Sequence[Path] = ()) -> Registry:
    """Import built-ins, entry points and plug-in files once. A broken one becomes a `Problem`; a broken FILE is the user's error."""
    package = importlib.import_module(BUILT_IN)
    for module in pkgutil.walk_packages(package.__path__, prefix=f"{BUILT_IN}."):
        _import(module.name, origin_name=module.name)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        _import(entry.module, origin_name=f"entry point {entry.name} ({entry.value})")
    for path in plugins:
        load_file(path)
    return REGISTRY


def _import(module: str, origin_name: str) -> None:
    if module in sys.modules or any(p.origin == origin_name for p in REGISTRY.problems):
        return
    try:
        importlib.import_module(module)
    except Exception as error:  # a foreign module may raise anything; it must not take the others with it
        REGISTRY.problems.append(Problem(origin_name, f"{type(error).__name__}: {error}"))


def load_file(path: Path) -> str:
    """Import a plug-in FILE.py and return the name it registered; every fault is a `UserError`."""
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"plug-in not found: {path}")
    module_name = f"{USER}.{path.stem}"
    if (loaded := sys.modules.get(module_name)) is not None:
        if loaded.__file__ != str(path):
            raise UserError(f"two plug-ins are named '{path.stem}': {loaded.__file__} and {path}")
        return module_name
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(USER, types.ModuleType(USER))  # the parent that pickling an instance looks for
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        REGISTRY.classes.pop(module_name, None)
        raise UserError(f"plug-in {path} failed to import: {type(error).__name__}: {error}") from error
    if module_name not in REGISTRY.classes:
        raise UserError(f"plug-in {path} registered no strategy; decorate its class with @register")
    return module_name
