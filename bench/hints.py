"""Hints for a mistyped name. Standard library only."""

import difflib
from collections.abc import Iterable


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the choice where nothing is near and the choice is short."""
    names = sorted(known)
    tails = {n.rsplit(".", 1)[-1]: n for n in names}
    close = difflib.get_close_matches(word, names, n=3) or [
        tails[t] for t in difflib.get_close_matches(word.rsplit(".", 1)[-1], tails, n=3)
    ]
    if close:
        return "; did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 20 else ""
