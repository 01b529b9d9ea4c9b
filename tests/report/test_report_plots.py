"""The report's pictures: what stands on their axes, that files repeat byte for byte, and that nothing empty is drawn."""

import dataclasses
import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.text import Text
from PIL import Image

from bench.cards import Heading
from bench.measures import Measure, measured, missing
from bench.report.leaderboard.board import board
from bench.report.plots.canvas import WIDTH, Figure, Sketch, house_style, marks, save, settle, sheet
from bench.report.plots.cloud import clouds
from bench.report.plots.energy import images_to_equal
from bench.report.plots.front import FAINT, fronts
from bench.report.plots.labels import Label, place
from bench.report.plots.steps import best_line
from bench.report.plots.taxonomy import sorted_rows
from bench.survey import RowStatus, rows
from tests.made_records import failed_record, made_energy
from tests.sketches import DDIM, DDPM, P2, QUALITY, drawn, made, sketched, some


@pytest.fixture(scope="module")
def pictures() -> dict[str, Sketch]:
    return sketched(some())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Figure]:
    return drawn(some(), tmp_path_factory.mktemp("files"))


def test_the_same_records_make_the_same_bytes(files: list[Figure], tmp_path: Path) -> None:
    first = files
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": "another", "axes.facecolor": "red"}):
        second = drawn(some(), tmp_path)
    assert [f.png.stem for f in first] == ["quality_against_cost", "quality_against_steps", "training_against_sampling", "taxonomy"]
    assert len({f.png.read_bytes() for f in first}) == len(first)
    for one, other in zip(first, second, strict=True):
        assert one.png.read_bytes() == other.png.read_bytes() and one.svg.read_bytes() == other.svg.read_bytes()
        assert one.title == other.title and one.alt == other.alt


def test_files_are_what_they_say_and_bear_no_version(files: list[Figure]) -> None:
    for figure in files:
        with Image.open(figure.png) as image:
            assert image.format == "PNG" and image.size[0] == round(WIDTH * 200) and "Software" not in image.info
        assert ET.fromstring(figure.svg.read_text()).tag.endswith("}svg")
        assert "Matplotlib v" not in figure.svg.read_text() and "<dc:date>" not in figure.svg.read_text()
        assert figure.title and len(figure.alt) > len(figure.title)


@pytest.mark.parametrize(
    "scores", [{}, {"class_accuracy": measured(0.9)}, {QUALITY: missing("failed: a test")}], ids=["none", "other", "empty"]
)
def test_without_quality_nothing_is_drawn(scores: dict[str, Measure], tmp_path: Path) -> None:
    records = [dataclasses.replace(r, scores=scores) for r in some()[:2]]
    assert [f.png.stem for f in drawn(records, tmp_path)] == ["taxonomy"]
    assert drawn([failed_record(P2)], tmp_path / "failed") == []


def test_one_record_is_enough(tmp_path: Path) -> None:
    assert len(drawn(some()[:1], tmp_path)) == 4


def test_the_fronts_points(pictures: dict[str, Sketch]) -> None:
    """By evaluations the two of DDIM, cornered; where all costs are one, the best alone."""
    figure = pictures["quality_against_cost"].sheet
    fronts = [next(line for line in axis.lines if line.get_gid() == "front") for axis in figure.axes[:5]]
    assert fronts[0].get_xydata().tolist() == [[10, 1.0], [100, 1.0], [100, 0.5]]
    assert fronts[1].get_xydata().tolist() == [[2.0, 0.5]]
    named = [[t.get_text() for t in axis.texts if t.get_text()] for axis in figure.axes[:2]]
    assert named == [["ddim", "ddim"], ["ddim"]]


def test_hypervolume_stands_with_its_box(pictures: dict[str, Sketch]) -> None:
    """Median loss 2: (10, 1.0) has half of the box, (100, 0.5) a quarter of its right half more."""
    figure = pictures["quality_against_cost"].sheet
    titles = [axis.get_title(loc="left") for axis in figure.axes[:2]]
    assert titles == [f"hypervolume {0.625:.2f} of 10 to 1,000 × 0 to 2", "no hypervolume: one cost alone"]


def segments(sketch: Sketch, panel: int) -> set[tuple[float, ...]]:
    found = [c for c in sketch.sheet.axes[panel].collections if isinstance(c, LineCollection) and c.get_gid() == "intervals"]
    return {tuple(np.round(segment, 9).flatten().tolist()) for c in found for segment in c.get_segments()}


def test_intervals_reach_the_axes() -> None:
    records = some()
    sample = records[0].sample
    assert sample is not None
    energy = dataclasses.replace(made_energy(1e-3), kwh=Measure(value=1e-3, low=0.8e-3, high=1.5e-3))
    records[0] = dataclasses.replace(records[0], sample=dataclasses.replace(sample, energy=energy))
    found = sketched(records)
    assert segments(found["quality_against_cost"], 0) == {
        (10, 0.9, 10, 1.2),
        (100, 0.45, 100, 0.55),
        (1000, 2.9, 1000, 3.1),
        (1000, 3.9, 1000, 4.1),
    }
    assert (1.6, 1.0, 3.0, 1.0) in segments(found["quality_against_cost"], 3)  # kWh of 500 images in Wh of 1000
    first = sorted(by_heading(found["quality_against_steps"]))
    assert first == ["EDS: representation", "EDS: state space", "EPS: retrieval"]
    assert (10, 0.9, 10, 1.2) in segments(found["quality_against_steps"], 1)


def by_heading(sketch: Sketch) -> list[str]:
    return [axis.get_title(loc="left") for axis in sketch.sheet.axes if axis.get_title(loc="left")]


def test_what_is_surely_off_the_front_is_faint(pictures: dict[str, Sketch]) -> None:
    axis = pictures["quality_against_cost"].sheet.axes[0]
    shades = {
        tuple(where): float(edge[3])
        for c in axis.collections
        if isinstance(c, PathCollection)
        for where, edge in zip(c.get_offsets().tolist(), c.get_edgecolors(), strict=True)
    }
    assert shades == {(10, 1.0): 1.0, (100, 0.5): 1.0, (1000, 3.0): pytest.approx(FAINT), (1000, 4.0): pytest.approx(FAINT)}


def test_devices_never_share_an_axis() -> None:
    records = [*some(), made(DDIM, 50, measured(0.7), device="GPU test")]
    found = sketched(records)
    assert {"quality_against_cost-cpu-test", "quality_against_cost-gpu-test", "training_against_sampling-gpu-test"} < found.keys()
    assert "quality_against_cost" not in found
    axis = found["quality_against_cost-gpu-test"].sheet.axes[2]
    assert [c.get_offsets().tolist() for c in axis.collections if isinstance(c, PathCollection)] == [[[50.0, 0.7]]]
    assert "CPU test" not in found["quality_against_cost-gpu-test"].alt


def test_energies_of_two_sources_never_share_an_axis() -> None:
    records = some()[:3]
    sample = records[2].sample
    assert sample is not None
    other = dataclasses.replace(sample.energy, source=None)
    records[2] = dataclasses.replace(records[2], sample=dataclasses.replace(sample, energy=other))
    (cloud,) = clouds(board(records), records)
    assert {p.strategy for p in cloud.having("wh")} == {DDIM} and "estimate" in cloud.source
    assert next(p for p in cloud.points if p.strategy == DDPM).measures["wh"].reason == "measured differently: none"


def test_energies_meet_on_the_diagonals() -> None:
    """Own 1e-4 and inherited 1e-4 kWh of training; 1e-3 kWh for 500 images: equal after 100 images."""
    records = some()[:1]
    (cloud,) = clouds(board(records), records)
    assert images_to_equal(cloud.points[0]) == pytest.approx(100)
    axis = sketched(records)["training_against_sampling"].sheet.axes[0]
    diagonals = [line.get_xydata() for line in axis.lines if line.get_gid() == "equal"]
    images = [(1000 * line[:, 0] / line[:, 1]).tolist() for line in diagonals]
    assert [100.0, 100.0] in [pytest.approx(pair) for pair in images]
    assert axis.collections[0].get_offsets().tolist() == [[pytest.approx(0.2), pytest.approx(2.0)]]
    assert "100 images" in [t.get_text() for t in axis.texts]


def test_a_line_takes_the_best_at_each_number_of_steps() -> None:
    records = [made(DDIM, 10, measured(2.0)), made(DDIM, 4, measured(3.0)), made(DDPM, 4, measured(1.0))]
    other = dataclasses.replace(records[0].cell, shown={"steps": 10, "eta": 1}, params={"steps": 10, "eta": 1})
    records.append(dataclasses.replace(made(DDIM, 10, measured(1.5)), cell=other))
    (cloud,) = clouds(board(records), records)
    assert best_line(cloud, cloud.points, DDIM) == [(4, 3.0), (10, 1.5)]
    axis = next(a for a in sketched(records)["quality_against_steps"].sheet.axes if a.get_title(loc="left") == "EDS: representation")
    assert [line.get_xydata().tolist() for line in axis.lines if line.get_gid() == DDIM] == [[[4, 3.0], [10, 1.5]]]


def test_failures_leave_the_axes_and_are_told() -> None:
    records = [made(DDIM, k, measured(1.0 + k / 100)) for k in (1, 2, 3)] + [made(DDPM, 5, measured(500.0))]
    figure = sketched(records)["quality_against_cost"].sheet
    assert figure.axes[0].get_ylim()[1] < 10
    legend = figure.axes[5].get_legend()
    assert legend is not None and "above the axes: 1 configuration, up to 500" in [t.get_text() for t in legend.get_texts()]


def test_taxonomy_holds_every_row_once() -> None:
    found = sorted_rows({DDIM})
    placed = [row.id for same in found.values() for row, _ in same]
    assert sorted(placed) == sorted(r.id for r in rows() if r.table != "III")
    assert [row.id for same in found.values() for row, state in same if state is RowStatus.MEASURED] == ["I-29"]
    design = [row.id for heading, same in found.items() if heading.startswith("eds.") for row, _ in same if row.table == "II"]
    assert design == []  # Table II is of process strategies


def test_print_is_legible_and_labels_stand_apart(pictures: dict[str, Sketch]) -> None:
    for sketch in pictures.values():
        assert sketch.sheet.get_size_inches()[0] <= WIDTH
        small = [t.get_text() for t in sketch.sheet.findobj(Text) if t.get_text() and t.get_fontsize() < 8]
        assert small == [], sketch.stem
    with house_style():
        figure = sheet(4.0)
        axis = figure.subplots()
        settle(figure)
        place(axis, [Label(0.5 + k / 100, 0.5, f"strategy {k}", "black") for k in range(6)], [])
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        boxes = [t.get_window_extent(renderer) for t in axis.texts if t.get_text()]
        assert len(boxes) == 6 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("title", ["<script>alert(1)</script>", "$x^$", "_hidden", "two\nlines " * 20, "\\frac{$"])
def test_any_title_stays_text(title: str, tmp_path: Path) -> None:
    record = some()[0]
    record = dataclasses.replace(record, card=dataclasses.replace(record.card, title=title))
    (cloud,) = clouds(board([record]), [record])
    with house_style():
        sketch = fronts(cloud, marks({DDIM: (title, Heading.REPRESENTATION)}))
        assert sketch is not None
        text = save(sketch, tmp_path).svg.read_text()
    assert ET.fromstring(text) is not None and "<script" not in text
    named = [t.get_text() for t in sketch.sheet.axes[0].texts if t.get_text()]
    assert len(named) == 1 and "\n" not in named[0] and len(named[0]) <= 45
