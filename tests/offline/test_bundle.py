"""A machine without network: what a bundle holds, what it says where something is wrong, and a whole run elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.data.datasets import DEBIAN_FASHION
from bench.harness.plan.cells import Options
from bench.metrics.extractors.efficientnet_lite0 import EFFICIENTNET
from bench.offline.bundle import MB, Order, gather, refuse_occupied, script, sealed, sizes, source, write
from bench.offline.install import lacking
from bench.offline.wheels import direct
from bench.registry import discover
from bench.suites.suite import load
from bench.values import UserError
from tests.conftest import Run
from tests.elsewhere import HERE, machine, made_wheel, run

EVERYTHING = ",".join(need.name for need in direct(HERE, (EFFICIENTNET,)))


def small(folder: Path, python: str = HERE, needs: tuple[str, ...] = (), wheels: tuple[Path, ...] = ()) -> Path:
    """A bundle of the suite `digits` without data and checkpoints."""
    parts = {**source(), **{f"wheels/{path.name}": path for path in wheels}}
    write(sealed(parts, Order(suite="digits", python=python, minutes=1.0, requires=needs), 60 * MB), folder / "bundle")
    return folder / "bundle"


def fault_of(bundle: Path, python: str = sys.executable) -> str:
    """The one line with which the script refuses."""
    done = run(python, bundle / "run.sh")
    assert done.returncode == 2 and done.stdout == "", done
    (line,) = done.stderr.strip().splitlines()
    return line


# --- what a bundle holds ---


def test_manifest_lists_every_file_as_it_is(tmp_path: Path) -> None:
    """Against coreutils' sha256sum."""
    bundle = small(tmp_path, wheels=(made_wheel(tmp_path, "tinywheel"),))
    manifest = json.loads((bundle / "MANIFEST.json").read_bytes())
    lines = "".join(f"{file['sha256']}  {name}\n" for name, file in manifest["files"].items())
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet"], cwd=bundle, input=lines, text=True, check=True)
    there = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in bundle.rglob("*") if path.is_file()}
    assert {name: file["bytes"] for name, file in manifest["files"].items()} == {k: v for k, v in there.items() if k != "MANIFEST.json"}
    assert os.access(bundle / "run.sh", os.X_OK) and there["wheels/tinywheel-1.0-py3-none-any.whl"] > 0


def test_source_is_whole_and_nothing_else() -> None:
    """What git keeps of the two packages; the suites, tables and templates among it."""
    root = Path(__file__).parents[2]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "bench", "strategies"], cwd=root, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    kept = {name for name in listed.stdout.decode().splitlines() if (root / name).is_file()}
    assert {name.removeprefix("source/") for name in source()} == kept


def test_limit_is_kept_and_the_biggest_parts_are_named(tmp_path: Path) -> None:
    for name, size in (("a", 700_000), ("b", 400_000)):
        (tmp_path / name).write_bytes(bytes(size))
    order, parts = Order(suite="digits", python=HERE, minutes=1.0), {f"data/{name}": tmp_path / name for name in "ab"}
    content = sealed(parts, order, 2 * MB)
    total = sum(map(len, content.values()))
    assert sealed(parts, order, total) == content and list(sizes(content))[:2] == ["data/a", "data/b"]
    with pytest.raises(UserError, match=r"1\.1 MB of at most 1\.1, the most by data/a 0\.7, data/b 0\.4, run\.sh 0\.0"):
        sealed(parts, order, total - 1)


def test_bundle_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    order = Order(suite="digits", python=HERE, minutes=1.0)
    content = sealed({}, order, MB)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        refuse_occupied(tmp_path / "taken")
    for out in (tmp_path / "taken", tmp_path / "taken/mine/below"):
        with pytest.raises(UserError, match="cannot write"):
            write(content, out)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["taken", "mine"]
    write(content, tmp_path / "taken/empty")
    assert {path.name for path in (tmp_path / "taken/empty").iterdir()} == {"run.sh", "MANIFEST.json"}


@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="Fashion-MNIST is not installed here")
def test_fashion_mnist_travels_as_its_four_files(tmp_path: Path) -> None:
    parts = gather("fashion-mnist-16", load("fashion-mnist-16"), discover(), Options(), tmp_path, [])
    data = {name: path.stat().st_size for name, path in parts.files.items() if name.startswith("data/")}
    assert set(data) == {f"data/{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")}
    assert "denoiser" in parts.notes[0] and "trained there" in parts.notes[0]


def test_script_keeps_any_name_a_word(tmp_path: Path) -> None:
    """A suite's file may be called anything."""
    text = script(Order(suite="it's $(touch evil); x.toml", python="3.12", minutes=1.5))
    (tmp_path / "head.sh").write_text("".join(line for line in text.splitlines(True) if "=" in line.split(" ")[0]) + 'echo "$suite"\n')
    told = subprocess.run(["sh", "head.sh"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told == "it's $(touch evil); x.toml\n" and "limit_s=390" in text and not (tmp_path / "evil").exists()


# --- what the script says where something is wrong ---


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    bundle = small(tmp_path)
    path = bundle / "source/bench/measures.py"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert fault_of(bundle) == "run.sh: source/bench/measures.py is damaged: copy the bundle again"
    path.write_bytes(whole[:-1])
    assert "source/bench/measures.py is damaged" in fault_of(bundle)
    path.write_bytes(whole)
    (bundle / "source/strategies/__init__.py").unlink()
    assert "source/strategies/__init__.py is missing" in fault_of(bundle)
    (bundle / "MANIFEST.json").write_text("{")
    assert "unreadable MANIFEST.json" in fault_of(bundle)


def test_another_python_is_told(tmp_path: Path) -> None:
    bundle = small(tmp_path, python="3.99")
    assert fault_of(bundle).startswith(f"run.sh: this bundle is for Python 3.99, and {sys.executable} is {HERE}: ")
    assert "no-such-python not found" in fault_of(bundle, "no-such-python")


def test_a_package_that_is_nowhere_is_told(tmp_path: Path) -> None:
    bundle = small(tmp_path, needs=("numpy>=1", "no-such-package>=2", "tinywheel"), wheels=(made_wheel(tmp_path, "tinywheel"),))
    line = fault_of(bundle)
    assert line == "run.sh: this machine lacks no-such-package, and so does the bundle: bundle again with --wheel no-such-package"
    assert (bundle / "site/tinywheel.py").is_file()


def test_old_packages_are_told_apart_from_absent_ones() -> None:
    absent, old = lacking(["torch>=999", "no-such-package", "numpy>=1", f"torch=={torch.__version__.split('+')[0]}"])
    assert absent == ["no-such-package"] and len(old) == 1 and old[0].startswith("torch ") and old[0].endswith("wanted >=999")


def test_wheels_that_cannot_be_installed_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tinywheel-1.0-py3-none-any.whl").write_bytes(b"no archive")
    bundle = small(tmp_path, wheels=(tmp_path / "tinywheel-1.0-py3-none-any.whl",))
    line = fault_of(bundle)
    assert line.startswith(f"run.sh: the wheels cannot be installed into {bundle}/site: pip: ")
    assert not list(bundle.glob("site*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_machine_without_gpu_is_told(tmp_path: Path) -> None:
    assert fault_of(small(tmp_path)) == "bench: device cuda asked for, and this machine has no CUDA device that torch can use"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--python", "2.7"], "--python takes a version like 3.12"),
        (["--wheel", "a b"], "--wheel takes NAME or NAME==VERSION"),
        (["--max-mb", "0.1", "--have", EVERYTHING], "MB of at most 0.1, the most by source"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line(bench: Run, tiny_suite: Path, tmp_path: Path, words: list[str], message: str) -> None:
    done = bench("bundle", tiny_suite, "--out", "bundle", *words, check=(2,))
    assert len(done.stderr.strip().splitlines()) == 1 and message in done.stderr and not (tmp_path / "bundle").exists()


# --- the whole way ---


def test_a_bundle_runs_without_network_and_its_results_come_home(
    bench: Run, tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an interpreter that knows nothing of this checkout and reaches nothing: cut short first, then to the end."""
    made_wheel(tmp_path / "index", "tinywheel")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    words = ("--have", EVERYTHING, "--wheel", "tinywheel==1.0", "--python", HERE, "--minutes", "4")
    told = json.loads(bench("bundle", tiny_suite, "--out", "bundle", *words, "--json").stdout)
    there = Path(shutil.move(tmp_path / "bundle", tmp_path / "copied there"))
    assert told["bytes"] == sum(path.stat().st_size for path in there.rglob("*") if path.is_file()) < 60 * MB
    assert len(told["notes"]) == 1 and told["notes"][0].endswith("trained there: denoiser, feature_classifier")

    other = machine(tmp_path)
    assert "no network here" in other.run(other.python, "-c", "import socket; socket.create_connection(('192.0.2.1', 9))").stderr
    other.attempts.unlink()
    first = other.run(there / "run.sh", "--device", "cpu", "--max-minutes", "0.0001")
    assert first.returncode == 0 and "3 not started" in first.stdout, first
    installed = (there / "site").stat().st_ino
    second = other.run(there / "run.sh", "--device", "cpu")
    assert second.returncode == 0 and "3 ok" in second.stdout, second
    assert not other.attempts.exists() and (there / "site").stat().st_ino == installed
    assert set(other.origins.read_text().splitlines()) == {str(there / "source/bench/__init__.py")}

    parcels = sorted((there / "parcels").iterdir())
    taken = json.loads(bench("merge", *parcels, "--results", "home", "--json").stdout)
    assert taken["records"] == {"taken": 3, "kept": 0, "refused": 0} and taken["checkpoints"]["taken"] == 4
    states = json.loads(bench("status", tiny_suite, "--results", "home", "--json").stdout)
    assert [state["state"] for state in states] == ["ok"] * 3
    here = json.loads(bench("plan", tiny_suite, "--results", "home", "--device", "cpu", "--json").stdout)["cells"]
    assert {cell["state"] for cell in here} == {"done"}  # the same cells, code and checkpoints included
    next_time = gather(str(tiny_suite), load(str(tiny_suite)), discover(), Options(), tmp_path / "home", [])
    packed = {name: path.read_bytes() for name, path in next_time.files.items() if name.startswith("results/assets/")}
    assert next_time.notes == () and len(packed) == 4
    assert all((there / name).read_bytes() == content for name, content in packed.items())
