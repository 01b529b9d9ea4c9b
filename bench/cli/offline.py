"""A machine without network: `bench bundle` packs what it lacks, `bench pack` what came of it, and `bench merge` takes that in."""

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Optional

import typer

from bench.cli import printing
from bench.cli.options import DEFAULT_SUITE, Data, Json, Results, SuiteName, resolve

BundleFolder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder that becomes the bundle.")]
ParcelFolder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the parcels go.")]
Wheels = Annotated[
    Optional[list[str]],
    typer.Option("--wheel", metavar="NAME==VERSION", help="A package to pack beside the others, or in another version than here."),
]
Have = Annotated[
    Optional[list[str]],
    typer.Option(metavar="NAMES", help="Packages that the machine has beside torch, numpy and their like, comma-separated."),
]
Python = Annotated[str, typer.Option(help="That machine's version of Python.")]
MaxMb = Annotated[float, typer.Option(min=0.0, help="The largest size of the bundle, in 10^6 bytes.")]
Minutes = Annotated[float, typer.Option(min=0.0, help="How long one run of the script may take.")]
Parcels = Annotated[list[Path], typer.Argument(metavar="FILES...", help="The parcels that `run.sh` or `bench pack` wrote.")]


def bundle(
    out: BundleFolder,
    suite: SuiteName = DEFAULT_SUITE,
    wheel: Wheels = None,
    have: Have = None,
    python: Python = "3.12",
    max_mb: MaxMb = 60.0,
    minutes: Minutes = 60.0,
    data: Data = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Pack what a CUDA machine without network lacks: wheels, data, checkpoints, source, and a script that runs the suite."""
    chosen, registry, options = resolve(suite, None, None, None, data, False, None, None)
    from bench.offline import bundle as bundling
    from bench.offline import wheels
    from bench.records.store import LOCAL

    bundling.refuse_occupied(out)
    wheels.python_version(python)
    named = [wheels.requirement(text) for text in wheel or ()]
    there = [name.strip() for given in have or () for name in given.split(",")]
    roots = wheels.direct(python, chosen.extractors)
    with TemporaryDirectory() as spool:
        fetched = wheels.fetch(wheels.chosen(roots, python, there, named), python, Path(spool))
        parts = bundling.gather(suite, chosen, registry, options, results or LOCAL, fetched)
        word = Path(suite).name if suite.endswith(".toml") else suite
        order = bundling.Order(suite=word, python=python, minutes=minutes, requires=tuple(f"{n.name}{n.specifier}" for n in roots))
        content = bundling.sealed(parts.files, order, round(max_mb * bundling.MB))
    bundling.write(content, out)
    sizes = bundling.sizes(content)
    total = sum(sizes.values())
    if as_json:
        return printing.as_json({"folder": str(out), "bytes": total, "parts": sizes, "notes": parts.notes})
    printing.table(["Part", "MB"], [[part, f"{size / bundling.MB:.2f}"] for part, size in sizes.items()])
    for note in parts.notes:
        print(note)
    print(f"{out}: {total / bundling.MB:.1f} MB in {len(content)} files")
    print(f"copy it to the machine, run {out.name}/{bundling.RUN} there, bring {out.name}/parcels back, and `bench merge` them")


def pack(out: ParcelFolder, results: Results = None, as_json: Json = False) -> None:
    """Pack plans, records, samples and checkpoints for the way home: at most 8 files of at most 16 MB."""
    from bench.offline.parcels import pack as packed
    from bench.records.store import LOCAL

    done = packed(results or LOCAL, out)
    if as_json:
        left_out = [{"files": list(names), "bytes": size} for names, size in done.left_out.items()]
        return printing.as_json({"parcels": [str(file) for file in done.files], "left_out": left_out})
    for file in done.files:
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
    for names, size in done.left_out.items():
        print(f"left out, no room: {', '.join(names)}, {size / 1e6:.2f} MB")


def merge(files: Parcels, results: Results = None, as_json: Json = False) -> None:
    """Take parcels into a results folder. A finished record that is there stays; exit 1 where a damaged file was refused."""
    from bench.offline.merge import Fate, Kind
    from bench.offline.merge import merge as merged
    from bench.records.store import LOCAL

    verdicts = merged(files, results or LOCAL)
    counts = Counter((v.kind, v.fate) for v in verdicts)
    refused = [str(v) for v in verdicts if v.fate is Fate.REFUSED]
    if as_json:
        found: dict[str, object] = {kind: {fate: counts[kind, fate] for fate in Fate} for kind in Kind}
        printing.as_json(found | {"reasons": refused})
    else:
        printing.table(["Files", *(fate.capitalize() for fate in Fate)], [[kind, *(counts[kind, fate] for fate in Fate)] for kind in Kind])
        for line in refused:
            print(line, file=sys.stderr)
    if refused:
        raise typer.Exit(1)
