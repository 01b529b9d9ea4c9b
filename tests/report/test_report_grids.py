"""The figure of samples: the same seed for every strategy, real images first."""

import dataclasses
from pathlib import Path

import numpy as np
from matplotlib.text import Annotation
from PIL import Image

from bench.records.store import Store
from bench.report.plots.canvas import house_style, save
from tests.sketches import DDIM, DDPM, RDM, sketched, some


def grid_png(path: Path, level: int) -> None:
    """Two rows of ten 8 x 8 images, all of one grey, the second row black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((17, 89, 3), dtype=np.uint8)
    pixels[:8] = level
    Image.fromarray(pixels).save(path)


def test_sample_grids_show_the_same_seed_real_images_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    levels = {"real": 10, "best": 20, "other": 30}
    for name, level in levels.items():
        grid_png(tmp_path / "samples" / f"{name}.png", level)
    (tmp_path / "samples" / "torn.png").write_bytes(b"no picture")
    names = {DDIM: "best", DDPM: "other", RDM: "torn"}
    kept = [dataclasses.replace(r, samples_png=f"samples/{names[r.cell.strategy]}.png") for r in some()[1:4]]
    sketch = sketched(kept, store)["samples"]
    (axis,) = sketch.sheet.axes
    image = axis.images[0].get_array()
    assert image is not None
    assert image[:: image.shape[0] // 28, 0, 0].tolist() == [10] * 8 + [255] * 2 + [20] * 8 + [255] * 2 + [30] * 8
    assert [t.get_text() for t in axis.texts if not isinstance(t, Annotation)] == ["Real images", "ddim 0.5", "ddpm 3"]
    with house_style():
        assert "<!-- Strategy, FD digits -->" in save(sketch, tmp_path).svg.read_text()
    assert "samples" not in sketched(some()[:1], store)
