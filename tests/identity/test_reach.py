"""What code reaches, on small packages: what a static reading cannot follow is included."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.identity import reach
from bench.identity.reach import code_hash
from bench.identity.resolve import Definition

Hash = Callable[..., str]


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hash:
    """The hash of `main.py`'s function `root`, beside other modules of the user's."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(main: str, **modules: str) -> str:
        for name, text in {"main": main, **modules}.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        reach.forget()
        return code_hash([Definition("", tmp_path / "main.py", "root")])

    return of


HELPERS = "def f(x):\n    return x + {}\n\n\ndef g(x):\n    return x - {}\n"


@pytest.mark.parametrize(
    "main",
    [
        "import helpers\n\n\ndef root(name):\n    return getattr(helpers, name)(1)\n",
        "import helpers as h\n\n\ndef root(name):\n    return vars(h)[name](1)\n",
        "from helpers import *\n\n\ndef root(x):\n    return f(g(x))\n",
        "import helpers\n\nKINDS = {'f': helpers.f, 'g': helpers.g}\n\n\ndef root(name):\n    return KINDS[name](1)\n",
        "def root(x):\n    from helpers import f, g\n\n    return f(g(x))\n",
        "import helpers\n\n\nclass root:\n    def a(self):\n        return helpers.f(1)\n\n    def b(self):\n        return helpers.g(1)\n",
        "from helpers import f, g\n\n\ndef root(x, step=f):\n    return [g for g in [g]], step(x)\n",
        "from helpers import f, g\n\n\ndef root(f=f, x=1):\n    return f(g(x))\n",
        "from helpers import f, g\n\n\n@g\ndef root(g):\n    return f(1)\n",
        "import functools\nimport helpers\n\n\ndef root(x):\n    return functools.partial(helpers.f, helpers.g)\n",
        "try:\n    from helpers import f\nexcept ImportError:\n    f = None\nfrom helpers import g\n\n\ndef root(x):\n    return f(g(x))\n",
    ],
)
def test_both_helpers_count(hashed: Hash, main: str) -> None:
    plain = hashed(main, helpers=HELPERS.format(1, 2))
    assert hashed(main, helpers=HELPERS.format(3, 2)) != plain
    assert hashed(main, helpers=HELPERS.format(1, 3)) != plain
    assert hashed(main, helpers=HELPERS.format(1, 2)) == plain


@pytest.mark.parametrize(
    "main",
    [
        "import helpers\n\n\ndef root(x):\n    return helpers.f(x)\n",
        "from helpers import f\n\n\ndef root(x: 'g'):\n    y: g = f(x)\n    return y\n",
        "from helpers import f, g\n\n\ndef root(g):\n    return f(g)\n",
        "from helpers import f, g\n\n\ndef root(x):\n    g = f(x)\n    return g\n",
        "from helpers import f, g\n\nKINDS = {'g': g}\n\n\ndef root(x):\n    return f(x)\n",
    ],
)
def test_only_what_is_used_counts(hashed: Hash, main: str) -> None:
    plain = hashed(main, helpers=HELPERS.format(1, 2))
    assert hashed(main, helpers=HELPERS.format(1, 3)) == plain
    assert hashed(main, helpers=HELPERS.format(3, 2)) != plain


def test_what_runs_at_import_counts(hashed: Hash) -> None:
    """Registration by a decorator, by a statement and by a call, in modules that are imported and not named again."""
    table = "KINDS = {}\n\n\ndef kind(f):\n    KINDS[f.__name__] = f\n    return f\n"
    main = "from table import KINDS\nimport more\n\n\ndef root(name):\n    return KINDS[name]\n"
    for more in (
        "from table import kind\n\n\n@kind\ndef f(x):\n    return {}\n",
        "from table import KINDS\n\nKINDS['f'] = lambda x: {}\n",
        "from table import KINDS\n\n_ = KINDS.setdefault('f', lambda x: {})\n",
        "from table import kind\n\n\ndef f(x):\n    return {}\n\n\nkind(f)\n",
    ):
        assert hashed(main, table=table, more=more.format(1)) != hashed(main, table=table, more=more.format(2)), more


def test_names_count_only_where_code_reads_them(hashed: Hash) -> None:
    plain = hashed("def f(x):\n    return x\n\n\ndef root(x):\n    return f(x)\n")
    assert hashed("def other(x):\n    return x\n\n\ndef root(x):\n    return other(x)\n") == plain
    naming = "def {0}(x):\n    return x\n\n\ndef root(x):\n    return {0}.__name__\n"
    assert hashed(naming.format("f")) != hashed(naming.format("g"))


def test_code_found_by_search_reaches_the_whole_project(tmp_path: Path) -> None:
    path = tmp_path / "main.py"
    for body in ("importlib.import_module(x)", "globals()[x]", "eval(x)", "x.__subclasses__()", "__import__(x)"):
        path.write_text(f"import importlib\n\n\ndef root(x):\n    return {body}\n")
        reach.forget()
        assert reach.EVERYTHING in reach.written(Definition("", path, "root")).uses, body
    assert len(reach.written(reach.EVERYTHING).uses) > 200


def test_relative_imports_packages_and_re_exports(hashed: Hash) -> None:
    main = "import kit.inner.deep\nfrom kit import shown\n\n\ndef root(x):\n    return kit.inner.deep.f(shown(x))\n"
    parts = {"kit/__init__": "from .inner import hidden as shown\n", "kit/inner/__init__": "from ..low import hidden\n"}
    low, deep = "def hidden(x):\n    return {}\n", "def f(x):\n    return {}\n"

    def of(a: int, b: int) -> str:
        return hashed(main, **parts, **{"kit/low": low.format(a), "kit/inner/deep": deep.format(b)})

    assert len({of(1, 1), of(2, 1), of(1, 2)}) == 3


def test_a_cycle_ends(hashed: Hash) -> None:
    main = "def root(x):\n    return other(x - 1)\n\n\ndef other(x):\n    return root(x) if x else {}\n"
    assert hashed(main.format(0)) != hashed(main.format(1))
