"""Suites, registry and plug-ins: strict, with hints, and never taken down by a stranger's fault."""

import importlib.metadata
from dataclasses import make_dataclass
from pathlib import Path

import pytest

from bench.registry import Registry, discover, load_file
from bench.suites import suite
from bench.values import UserError
from strategies.eds.representation.ddim import DDIM

PLUGIN = '''
"""A plug-in.

Paper: none. Saves: nothing. Differs: -
"""
from dataclasses import dataclass
from typing import ClassVar, final
from bench.registry import register
from bench.contract import Strategy
from bench.cards import AssetName, Card, Heading
from bench.data.images import padded, to_uint8

@register
@final
@dataclass(frozen=True, kw_only=True)
class Mine(Strategy):
    card: ClassVar[Card] = Card(title="Mine", paper="none", year=2026, arxiv=None, heading=Heading.CONTROL, rows=(), saves="all",
                                assets=(AssetName.DENOISER,), likelihood="not applicable: a test")
    def fit(self, kit):
        return kit.denoiser()
    def sample(self, model, request):
        return to_uint8(request.draws().normal(*padded(request.shape)), request.shape)
'''


@pytest.mark.parametrize("name", suite.names())
def test_shipped_suites_load(name: str) -> None:
    loaded = suite.load(name)
    registry = discover()
    for strategy, sweep in (loaded.strategies or {}).items():
        for params in sweep:
            registry.build(strategy, params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds", "seedz"), "did you mean 'seeds'"),
        (("n_samples = 32", "n_sample = 32"), "did you mean 'n_samples'"),
        (("width = 8", "width = 'wide'"), "budget.width"),
        (('title = "x"', "title = "), "not valid TOML"),
    ],
)
def test_faulty_suites_are_explained(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = 'title = "x"\ndataset = "digits"\nseeds = [0]\n[budget]\ntrain_images = 9\nn_samples = 32\nwidth = 8\n'
    path = tmp_path / "s.toml"
    path.write_text(text)
    assert suite.load(str(path)).budget.n_samples == 32
    path.write_text(text.replace(*change))
    with pytest.raises(UserError, match=message):
        suite.load(str(path))


def test_unknown_names_get_hints() -> None:
    registry = discover()
    with pytest.raises(UserError, match="did you mean 'digits'"):
        suite.load("digit")
    with pytest.raises(UserError, match=r"did you mean 'eds\.representation\.ddim'"):
        registry.get("ddim")
    with pytest.raises(UserError, match="did you mean 'steps'"):
        registry.build("eds.representation.ddim", {"step": 5})
    with pytest.raises(UserError, match="steps must be 1 or more"):
        registry.build("eds.representation.ddim", {"steps": 0})
    with pytest.raises(UserError, match="spacing"):
        registry.build("eds.representation.ddim", {"spacing": "cubic"})


def test_registry_refuses_duplicates_and_strangers() -> None:
    registry = Registry()
    registry.register(DDIM)
    with pytest.raises(UserError, match="registered twice"):
        registry.register(DDIM)
    with pytest.raises(UserError, match="can be named 'compute'"):
        registry.register(make_dataclass("Clashing", [("compute", str, "fast")], bases=(DDIM,), frozen=True, kw_only=True))
    with pytest.raises(UserError, match="only subclasses"):
        registry.register(int)  # type: ignore[type-var]


def test_plugin_file(tmp_path: Path) -> None:
    path = tmp_path / "mine_ok.py"
    path.write_text(PLUGIN)
    assert load_file(path) == "user.mine_ok"
    assert discover().get("user.mine_ok").card.title == "Mine"
    assert load_file(path) == "user.mine_ok"  # a second time changes nothing
    discover().classes.pop("user.mine_ok")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "failed to import: ModuleNotFoundError"),
        ("x = 1", "registered no strategy"),
        ("def (", "SyntaxError"),
    ],
)
def test_broken_plugin_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / f"broken_{abs(hash(text))}.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_file(path)


def test_broken_entry_point_is_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = importlib.metadata.EntryPoint("bad", "no_such_package.strategies", "bench.strategies")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [broken])
    registry = discover()
    assert any("no_such_package" in p.reason for p in registry.problems) and "eds.representation.ddim" in registry.classes
    registry.problems.clear()
