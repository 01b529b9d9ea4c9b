"""A bundle: a folder that holds what a machine without network lacks to run a suite, with a script that verifies, installs and runs it.

<folder>/run.sh, MANIFEST.json, <suite>.toml, source/, wheels/*.whl, data/, results/assets/<asset id>/
"""

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.data.datasets import DataSource, find_fashion, load
from bench.harness.assets.trained import asset_id
from bench.harness.machine import git_revision
from bench.harness.plan.cells import Options, asset_names, plan
from bench.identity.sources import PROJECT
from bench.offline.install import MANIFEST, WHEELS, fingerprint
from bench.offline.parcels import ASSETS, COST, MODEL
from bench.registry import Registry
from bench.suites.suite import Suite
from bench.values import UserError

RUN = "run.sh"
TEMPLATE = Path(__file__).with_name("run.sh")
MB = 1_000_000
SLACK_S = 300  # beyond a run's minutes: its start, and the report at its end
BIGGEST = 5  # parts that a message names


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the machine is to do: `suite` as `bench run` takes it, `requires` what it must have by then, `minutes` of one run."""

    suite: str
    python: str
    minutes: float
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Files by their place in the bundle; and what the bundle leaves to the machine, a line each."""

    files: dict[str, Path]
    notes: tuple[str, ...]


def gather(named: str, suite: Suite, registry: Registry, options: Options, results: Path, wheels: Iterable[Path]) -> Parts:
    """All that is packed as it is: source, wheels, data, the checkpoints of the suite's cells under `results`, a suite of one's own."""
    own = {Path(named).name: Path(named)} if named.endswith(".toml") else {}
    data, note = _data(suite.dataset, options.data)
    found, to_train = _checkpoints(suite, registry, options, results)
    notes = [note] if note else []
    if to_train:
        notes.append(f"no checkpoint under {results}, to be trained there: {', '.join(to_train)}")
    packed = {f"{WHEELS}/{path.name}": path for path in wheels}
    return Parts(files={**own, **source(), **packed, **data, **found}, notes=tuple(notes))


def source() -> dict[str, Path]:
    """The project's own packages, file by file: code hashes are the same there."""
    found = {}
    for package in PROJECT:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in name.parts):
                found[f"source/{package}/{name.as_posix()}"] = path
    return found


def _data(dataset: str, where: DataSource) -> tuple[dict[str, Path], str | None]:
    """The files of a data set that comes as files, or a line on one that is not packed."""
    match dataset:
        case "digits":
            return {}, None
        case "fashion-mnist" | "fashion-mnist-16":
            return {f"data/{path.name}": path for path in sorted(find_fashion(where).glob("*-ubyte.gz"))}, None
    return {}, f"not packed: {dataset}; it has to lie on that machine where it lies here, or where ./{RUN} --data DIR says"


def _checkpoints(suite: Suite, registry: Registry, options: Options, results: Path) -> tuple[dict[str, Path], list[str]]:
    """The trained assets of the suite's cells, and the names of those that are not trained yet."""
    data, found, to_train = load(suite.dataset, options.data), {}, []
    for name in asset_names(plan(suite, registry, options).cells):
        place = f"{ASSETS}/{asset_id(name, data, suite.budget)}"
        if (results / place / COST).is_file():
            found.update({f"results/{place}/{file}": results / place / file for file in (MODEL, COST)})
        else:
            to_train.append(name)
    return found, to_train


def sealed(parts: Mapping[str, Path], order: Order, limit_bytes: int) -> dict[str, bytes]:
    """The content of every file, the script and the manifest among them. More than the limit is a `UserError` with the biggest parts."""
    content = {name: path.read_bytes() for name, path in parts.items()}
    content[RUN] = script(order).encode()
    manifest = {
        "suite": order.suite,
        "python": order.python,
        "git": git_revision(),
        "requires": list(order.requires),
        "files": {name: fingerprint(raw) for name, raw in sorted(content.items())},
    }
    content[MANIFEST] = json.dumps(manifest, indent=1).encode()
    total = sum(map(len, content.values()))
    if total > limit_bytes:
        biggest = ", ".join(f"{part} {size / MB:.1f}" for part, size in list(sizes(content).items())[:BIGGEST])
        raise UserError(
            f"the bundle would take {total / MB:.1f} MB of at most {limit_bytes / MB:.1f}, the most by {biggest}: "
            "name with --have what that machine has, or raise --max-mb"
        )
    return content


def script(order: Order) -> str:
    """The shell script that runs this order."""
    values = {"suite": order.suite, "python": order.python, "minutes": order.minutes, "limit_s": math.ceil(60 * order.minutes) + SLACK_S}
    text = TEMPLATE.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", shlex.quote(str(value)))
    return text


def sizes(content: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes of each part, the biggest first: the source and each checkpoint as a whole, all else file by file."""
    found: dict[str, int] = {}
    for name, raw in content.items():
        part = "source" if name.startswith("source/") else name.removesuffix(f"/{MODEL}").removesuffix(f"/{COST}")
        found[part] = found.get(part, 0) + len(raw)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def refuse_occupied(out: Path) -> None:
    """A bundle goes into a folder of its own: another's results may lie in this one."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new folder with --out")


def write(content: Mapping[str, bytes], out: Path) -> None:
    """The whole bundle, or nothing of it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent) as beside:
            whole = Path(beside) / "bundle"
            for name, raw in content.items():
                path = whole / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw)
            (whole / RUN).chmod(0o755)
            whole.rename(out)  # an empty folder gives way
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
