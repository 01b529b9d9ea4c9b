"""Synthetic records whose pictures are known, and what is drawn of them."""

import dataclasses
from pathlib import Path

from bench.measures import Measure
from bench.records.store import Store
from bench.report.leaderboard.board import board, by_task
from bench.report.plots import draw, sketches
from bench.report.plots.canvas import Figure, Sketch, house_style
from bench.values import Record
from tests.made_records import failed_record, made_record

DDIM, DDPM, RDM, P2 = "eds.representation.ddim", "eds.state_space.ddpm", "eps.retrieval.rdm", "eps.training.p2"


QUALITY = "fd_digits"


def made(strategy: str, steps: int, quality: Measure, device: str = "CPU test") -> Record:
    record = made_record(strategy, steps=steps, quality=1.0, device=device)
    return dataclasses.replace(record, scores={**record.scores, QUALITY: quality})


def some() -> list[Record]:
    """DDIM at 10 and 100 steps is the front by evaluations; DDPM is beaten, RDM by far, and P2 has failed."""
    return [
        made(DDIM, 10, Measure(value=1.0, low=0.9, high=1.2)),
        made(DDIM, 100, Measure(value=0.5, low=0.45, high=0.55)),
        made(DDPM, 1000, Measure(value=3.0, low=2.9, high=3.1)),
        made(RDM, 1000, Measure(value=4.0, low=3.9, high=4.1)),
        failed_record(P2),
    ]


def sketched(records: list[Record], *stores: Store) -> dict[str, Sketch]:
    with house_style():
        boards = {task: board(found) for task, found in by_task(records).items()}
        return {sketch.stem: sketch for sketch in sketches(boards, records, stores) if sketch is not None}


def drawn(records: list[Record], folder: Path) -> list[Figure]:
    return draw({task: board(found) for task, found in by_task(records).items()}, records, [], folder)
