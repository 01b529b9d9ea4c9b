"""A suite: which data set, which strategies with which sweeps, on what budget. Written as TOML; no torch."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.cards import Params
from bench.hints import near
from bench.values import Budget, Compute, UserError

FOLDER = Path(__file__).parent
OWN = "own"  # in `extractors`: the data set's own classifier


class Suite(BaseModel):
    """`strategies` maps names to sweeps; absent, every registered strategy runs with its card's sweep, cut to `sweep_limit`.

    Each runs on the tasks of its card, the first `task_limit` of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    dataset: str
    extractors: tuple[str, ...] = ("inception", "efficientnet_lite0", OWN)
    seeds: tuple[int, ...] = (0,)
    cell_minutes: float = Field(default=30, gt=0)
    budget: Budget
    compute: Compute = Compute.REFERENCE
    strategies: dict[str, tuple[Params, ...]] | None = None
    sweep_limit: int = Field(default=100, ge=1)
    task_limit: int = Field(default=100, ge=1)


def names() -> list[str]:
    """The suites that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Suite:
    """A suite by name, or from a path to a TOML file. Every fault is a `UserError` in one line."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise UserError(f"suite file not found: {path}")
        raise UserError(f"unknown suite '{name}'{near(name, names())}, or a path to a .toml file")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error
    _refuse_unknown(path, raw, Suite.model_fields)
    if isinstance(raw.get("budget"), dict):
        _refuse_unknown(path, raw["budget"], Budget.__dataclass_fields__)
    try:
        return Suite.model_validate({"name": path.stem, **raw})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {'.'.join(str(step) for step in fault['loc'])}: {fault['msg']}") from error


def _refuse_unknown(path: Path, table: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in table:
        if key not in known:
            raise UserError(f"{path}: unknown key '{key}'{near(key, known)}")
