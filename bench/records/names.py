"""Which configurations a person means by `eds.representation.ddim[steps=50]`, `ddim[steps=50]` or `ddim`, and which two belong together."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.cards import Params
from bench.hints import near
from bench.values import UserError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`NAME[key=value, ...]` taken apart: the name, or its end, and the parameters as they were written."""

    text: str
    name: str
    chosen: dict[str, str]

    def strategy(self, known: Collection[str], where: str) -> str:
        """The one of the known names `where` that is meant: the full name, or the name that ends so after a dot."""
        found = [k for k in sorted(known) if k == self.name] or [k for k in sorted(known) if k.endswith(f".{self.name}")]
        if len(found) > 1:
            raise UserError(f"'{self.name}' may be {' or '.join(found)}")
        if not found:
            raise UserError(f"no strategy '{self.name}' {where}{near(self.name, known)}")
        return found[0]

    def means(self, params: Params) -> bool:
        """Whether a configuration with all these parameters is among those that are meant."""
        return all(key in params and _reads(params[key], text) for key, text in self.chosen.items())


def wanted(text: str) -> Wanted:
    """Raises UserError for what is no `NAME` and no `NAME[key=value, ...]`."""
    parsed = re.fullmatch(r"([^\[\]]+)(?:\[(.*)\])?", text.strip())
    if parsed is None:
        raise UserError(f"'{text}' is no NAME and no NAME[parameter=value, ...]")
    parts = [part.partition("=") for part in parsed[2].split(",")] if parsed[2] else []
    if any(not sign for _, sign, _ in parts):
        raise UserError(f"'{text}': between brackets stand parameter=value, with commas between")
    return Wanted(text=text, name=parsed[1], chosen={key.strip(): value.strip() for key, _, value in parts})


def pairs(left: Sequence[T], right: Sequence[T], shown: Callable[[T], Params]) -> list[tuple[T, T]]:
    """The configurations of either side that agree; one on each side are a pair whatever their parameters."""
    alone = len(left) == len(right) == 1
    return [(a, b) for a in left for b in right if alone or agree(shown(a), shown(b))]


def agree(ours: Params, theirs: Params) -> bool:
    """Equal in every parameter that both sweep; a configuration without any meets them all."""
    common = ours.keys() & theirs.keys()
    return all(ours[key] == theirs[key] for key in common) and bool(common or not ours or not theirs)


def nothing_in_common(ours: str, theirs: str) -> UserError:
    return UserError(f"'{ours}' and '{theirs}' have no task in common, and images of two tasks are not compared")


def nothing_agrees(ours: str, theirs: str, known: Iterable[str]) -> UserError:
    names = ", ".join(known)
    return UserError(f"no configuration of '{ours}' shares its swept parameters with one of '{theirs}'; name two of: {names}")


def _reads(value: object, text: str) -> bool:
    """Whether a person who writes `text` means this value: numbers by value, all else as it is printed."""
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == text
