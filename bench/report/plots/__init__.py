"""The report's pictures, from records alone: PNG and SVG, legible in print and to the colour-blind, two devices never on one axis."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.cards import Generate, task_name
from bench.records.store import Store
from bench.report.leaderboard.board import Leaderboard, by_task
from bench.report.plots.canvas import Figure, Sketch, house_style, marks, save
from bench.report.plots.cloud import clouds
from bench.report.plots.energy import training_against_sampling
from bench.report.plots.front import fronts
from bench.report.plots.grids import sample_grids
from bench.report.plots.steps import quality_against_steps
from bench.report.plots.tasks import quality_by_task
from bench.report.plots.taxonomy import taxonomy
from bench.values import Record, Status

__all__ = ["Figure", "draw"]


def draw(boards: Mapping[str, Leaderboard], records: Sequence[Record], stores: Sequence[Store], folder: Path) -> list[Figure]:
    """Every picture that these records have something to show in, written to the folder; `boards` are of the same records, by task."""
    folder.mkdir(parents=True, exist_ok=True)
    with house_style():
        return [save(sketch, folder) for sketch in sketches(boards, records, stores) if sketch is not None]


def sketches(boards: Mapping[str, Leaderboard], records: Sequence[Record], stores: Sequence[Store]) -> Iterator[Sketch | None]:
    """Generation device by device, other tasks device by device, then the survey's taxonomy; None for a picture that would be empty."""
    by = by_task(records)
    every = {task: {cloud.device: cloud for cloud in clouds(board, by.get(task, []))} for task, board in boards.items()}
    points = [p for of_task in every.values() for cloud in of_task.values() for p in cloud.points]
    shapes = marks({p.strategy: (p.title, p.heading) for p in points})
    generation = task_name(Generate())
    for cloud in every.pop(generation, {}).values():
        yield fronts(cloud, shapes)
        yield quality_against_steps(cloud, shapes)
        yield training_against_sampling(cloud, shapes)
        yield sample_grids(cloud, by[generation], stores)
    for device in sorted({device for of_task in every.values() for device in of_task}):
        yield quality_by_task(device, {task: of_task[device] for task, of_task in every.items() if device in of_task}, shapes)
    measured = {r.cell.strategy for r in records if r.status is Status.OK}
    yield taxonomy(measured) if measured else None
