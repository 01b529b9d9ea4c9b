"""The house keeps its shape: layers, light imports, sizes, no pickle, no global randomness."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bench.identity.sources import project_imports

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("bench/**/*.py"), *ROOT.glob("strategies/**/*.py")])
LAYERS = {  # a module may import from its own layer and from lower ones
    "bench.measures": 0,
    "bench.values": 0,
    "bench.hints": 0,
    "bench.cards": 0,
    "bench.intervals": 0,
    "bench.identity": 0,
    "bench.contract": 1,
    "bench.registry": 1,
    "bench.survey": 1,
    "bench.records": 1,
    "bench.diffusion": 2,
    "bench.nets": 2,
    "bench.data": 2,
    "bench.training": 2,
    "bench.metrics": 3,
    "bench.meters": 3,
    "strategies": 3,
    "bench.tasks": 4,
    "bench.suites": 4,
    "bench.harness": 5,
    "bench.testing": 6,
    "bench.offline": 6,
    "bench.report": 4,
    "bench.cli": 7,
    "bench.__main__": 7,
}
FILLS = {"drop_labels", "full_like", "full", "masked_fill", "ClassifierFree"}  # where a null condition is put in
ROOMS_OF_THREE = ("bench.metrics", "bench.meters", "strategies")  # layer 3: side by side, none imports another


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> int | None:
    known = [name for name in LAYERS if module == name or module.startswith(f"{name}.")]
    return LAYERS[max(known, key=len)] if known else None


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_layers(path: Path) -> None:
    mine = layer(module_name(path))
    if module_name(path) == "bench":
        assert project_imports(path, everything=True) == ("warnings",)
        return
    assert mine is not None, f"{module_name(path)} stands in no layer"
    for imported in project_imports(path):
        theirs = layer(imported)
        assert theirs is None or theirs <= mine, f"layer {mine} imports {imported} of layer {theirs}"
        room = next((r for r in ROOMS_OF_THREE if module_name(path).startswith(r)), None)
        if room is not None and theirs == 3:
            own = ".".join(module_name(path).split(".")[:4]) if room == "strategies" else room  # a method's own package, or the room
            assert imported.startswith(own), f"{module_name(path)} imports its neighbour {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_sizes(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= (150 if "strategies" in path.parts else 250), f"{lines} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 50, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_pickle_and_no_global_randomness(path: Path) -> None:
    text = path.read_text()
    assert "weights_only=False" not in text
    for line in text.splitlines():
        if "torch.load(" in line:
            assert "weights_only=True" in line, line
        random = any(call in line for call in ("torch.randn(", "torch.rand(", "torch.randint(", "randn_like(", "rand_like("))
        if random:
            assert "generator=generator" in line, f"draws from the global random state: {line.strip()}"


@pytest.mark.parametrize("path", [p for p in SOURCES if "nets" not in p.parts], ids=module_name)
def test_the_null_condition_is_the_networks_own(path: Path) -> None:
    """Nothing but a network takes the number of classes for the number of the condition that stands for none."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
            "drop_labels",
            "full_like",
            "full",
            "masked_fill",
            "ClassifierFree",
        }:
            assert "n_classes" not in ast.unparse(node), f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["status", "digits"], ["report", "digits", "--results", "results", "--out", "OUT"], ["survey", "--json"]],
    ids=lambda w: w[0],
)
def test_light_commands_import_no_torch(words: list[str], tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "OUT" else word for word in words]
    heavy = {"torch", "diffusers", "torchvision", "sklearn", "codecarbon"}
    if words == ["--help"]:  # the one that must come at once
        heavy |= {"numpy", "scipy", "pandas", "pydantic", "matplotlib", "jinja2"}
    code = (
        "import sys, bench.cli.main\n"
        f"sys.argv = ['bench', *{words!r}]\n"
        "try:\n    bench.cli.main.main()\nexcept SystemExit:\n    pass\n"
        f"heavy = {heavy!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file() == ("report" in words)


def test_the_runner_waits_for_no_metric() -> None:
    """What measures is imported by the worker alone: torch-fidelity with torchvision takes as long as torch itself."""
    paths = {module_name(path): path for path in SOURCES}
    found, waiting = set[str](), ["bench.harness.run.session", "bench.harness.run.engines.local"]
    while waiting:
        module = waiting.pop()
        if module in paths and module not in found:
            found.add(module)
            waiting += at_the_top(paths[module])
    assert "bench.harness.plan.cells" in found and not {"bench.harness.run.worker", "bench.metrics.fidelity"} & found


def at_the_top(path: Path) -> list[str]:
    """Dotted names that a file imports when it is imported itself."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_project_speaks_of_itself_alone() -> None:
    home = str(Path.home())
    for path in [*SOURCES, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/suites/*.toml")]:
        text = path.read_text()
        assert home == "/" or f"{home}/" not in text, path
