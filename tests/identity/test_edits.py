"""Which strategies an edit of the project makes old: the real tree, copied, edited and hashed again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.cards import AssetName
from bench.harness.assets.trained import RECIPES, closure
from bench.identity import reach, sources
from bench.identity.roots import recipe_hash, strategy_hash
from bench.identity.sources import PROJECT
from bench.registry import discover
from bench.survey import BUILT_IN

ROOT = Path(__file__).parents[2]
SCHEDULES, LOOPS, DDIM = "bench/diffusion/schedules.py", "bench/diffusion/loops.py", "strategies/eds/representation/ddim.py"
OTHER_CHAINS = {"gaussian", "pseudo_inverse", "resample", "cld", "vq_diffusion", "edm", "multinomial"}
DDIM_STEPS = {"adm", "cfg", "cdm", "ddim", "ldm", "ldm_ddim", "ddgm", "rdm", "progressive_distillation", "fsdm", "p2"}
GUIDED_BY_CLASSIFIER = {"adm", "adm_u", "ggdm"}

Edit = Callable[[Path], None]
Hashes = dict[str, str]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project that identities are read from."""
    for package in PROJECT:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "_roots", lambda top, _packages: (tmp_path / top,))
    reach.forget()
    yield tmp_path
    reach.forget()


@pytest.fixture(scope="module")
def before() -> Hashes:
    """Of the tree as it is."""
    return strategies()


def strategies() -> Hashes:
    """Identity by the last part of the name."""
    registry = discover()
    found = {}
    for name in registry:
        found[name.rsplit(".", 1)[1]] = strategy_hash(f"{BUILT_IN}.{name}", closure(registry.get(name).card.assets))
    return found


def replaced(file: str, old: str, new: str) -> Edit:
    def edit(tree: Path) -> None:
        text = (tree / file).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (tree / file).write_text(text.replace(old, new))

    return edit


def appended(file: str, text: str) -> Edit:
    def edit(tree: Path) -> None:
        with (tree / file).open("a") as opened:
            opened.write(text)

    return edit


def renamed_module(tree: Path) -> None:
    """`bench.diffusion.schedules` becomes `bench.noise.tables`."""
    (tree / "bench/noise").mkdir()
    (tree / "bench/noise/__init__.py").touch()
    (tree / SCHEDULES).rename(tree / "bench/noise/tables.py")
    for path in tree.rglob("*.py"):
        text = path.read_text()
        path.write_text(text.replace("bench.diffusion.schedules", "bench.noise.tables"))


def moved_definition(tree: Path) -> None:
    """`ddim` moves to a module of its own, and whoever imports it follows."""
    path = tree / LOOPS
    text = path.read_text()
    start = text.index("def ddim(")
    head = text[: text.index("Variance =")]
    (tree / "bench/diffusion/implicit.py").write_text(f"{head}from bench.diffusion.loops import estimate\n\n\n{text[start:]}")
    path.write_text(text[:start])
    for path in [*tree.rglob("*.py")]:
        lines = path.read_text().splitlines(keepends=True)
        for k, line in enumerate(lines):
            if line.startswith("from bench.diffusion.loops import "):
                names = line.removeprefix("from bench.diffusion.loops import ").strip().split(", ")
                if "ddim" in names:
                    rest = [name for name in names if name != "ddim"]
                    lines[k] = "from bench.diffusion.implicit import ddim\n"
                    lines[k] += f"from bench.diffusion.loops import {', '.join(rest)}\n" if rest else ""
        path.write_text("".join(lines))


EDITS: dict[str, tuple[Edit, set[str]]] = {
    "unused function added": (appended(SCHEDULES, "\n\ndef unused(x: int) -> int:\n    return 2 * x\n"), set()),
    "unused constant added": (appended(SCHEDULES, "\n\nUNUSED = 3\n"), set()),
    "module renamed": (renamed_module, set()),
    "definition moved": (moved_definition, set()),
    "comment": (replaced(LOOPS, "grid = sigmas.tolist()\n", "grid = sigmas.tolist()  # on the host\n"), set()),
    "docstring": (replaced(LOOPS, "deterministic at eta = 0.", "without noise at eta = 0."), set()),
    "annotation": (replaced(LOOPS, "eta: float = 0.0, clip: bool = False", 'eta: "float | int" = 0.0, clip: int = False'), set()),
    "card": (replaced(DDIM, 'title="DDIM"', 'title="Implicit models"'), set()),
    "import renamed": (
        lambda tree: [
            replaced(DDIM, "import ddim, start", "import ddim as steps_of, start")(tree),
            replaced(DDIM, "decode(ddim(model", "decode(steps_of(model")(tree),
        ][0],
        set(),
    ),
    "constant of the linear schedule": (replaced(SCHEDULES, "first: float = 1e-4", "first: float = 2e-4"), {"*"} - OTHER_CHAINS),
    "one line in ddim": (replaced(LOOPS, "(1 - (low / high) ** 2) ** 0.5 * draws", "(1 - (low / high) ** 2) ** 0.25 * draws"), DDIM_STEPS),
    "default of a hyper-parameter": (replaced(DDIM, "steps: int = 50", "steps: int = 40"), {"ddim"}),
    "recipe of the feature classifier": (replaced("bench/training/recipes/feature_classifier.py", "=0.05", "=0.06"), set()),
    "recipe of the noisy classifier": (
        replaced("bench/training/recipes/noisy_classifier.py", "return F.cross_entropy(", "return 2 * F.cross_entropy("),
        GUIDED_BY_CLASSIFIER,
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_makes_old_exactly_those_that_it_reaches(name: str, before: Hashes, tree: Path) -> None:
    edit, expected = EDITS[name]
    edit(tree)
    reach.forget()
    after = strategies()
    old = {strategy for strategy, identity in after.items() if identity != before[strategy]}
    assert old == (set(before) - OTHER_CHAINS if expected == {"*"} else expected)


def test_recipes_are_known_apart(tree: Path) -> None:
    """An edit of the classifier that measures quality trains nothing but itself again."""
    before = {name: recipe_hash(name) for name in RECIPES}
    replaced("bench/training/recipes/feature_classifier.py", "=0.05", "=0.06")(tree)
    reach.forget()
    changed = [name for name in RECIPES if recipe_hash(name) != before[name]]
    assert changed == ["feature_classifier"]
    assert {*map(str, AssetName)} < set(RECIPES)
