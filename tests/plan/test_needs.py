"""What strategies need of data and budget, and what the plan says where it is lacking."""

import numpy as np
import pytest
from PIL import Image

from bench.cards import Need
from bench.data.datasets import DataSource, load
from bench.harness.plan.cells import Options, plan
from bench.harness.plan.needs import lacking
from bench.registry import discover
from bench.suites.suite import load as load_suite
from bench.values import Budget
from tests.conftest import Run

BUDGET = Budget(train_images=64, n_samples=4)
GUIDED = ("eds.guidance.cfg", "eds.guidance.adm", "eds.guidance.adm_u", "eds.state_space.vq_diffusion")


@pytest.fixture
def classless(tmp_path):  # type: ignore[no-untyped-def]
    """A suite on a folder of images without sub-folders: one class, hence no condition to guide by."""
    generator = np.random.default_rng(0)
    (tmp_path / "flat").mkdir()
    for k in range(12):
        Image.fromarray(generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "flat" / f"{k}.png")
    path = tmp_path / "flat.toml"
    path.write_text(
        f'title = "Flat"\ndataset = "folder:{tmp_path / "flat"}"\nextractors = ["own"]\n[budget]\ntrain_images = 64\nn_samples = 4\n'
    )
    return path


def test_guidance_is_skipped_where_the_data_have_no_classes(classless) -> None:  # type: ignore[no-untyped-def]
    registry = discover()
    found = plan(load_suite(str(classless)), registry, Options())
    skipped = {each.strategy: each.reason for each in found.skipped}
    for name in GUIDED:
        assert "no classes to ask for" in skipped[name]
    assert {cell.strategy for cell in found.cells}.isdisjoint(GUIDED)
    assert "eds.representation.ddim" in {cell.strategy for cell in found.cells}


def test_training_is_skipped_where_the_budget_has_none() -> None:
    data, registry = load("digits", DataSource()), discover()
    for name in registry:
        card = registry.get(name).card
        reason = lacking(card, data, Budget(train_images=0))
        assert (reason is not None and "no training images" in reason) == (Need.TRAINING in card.needs), name
        assert lacking(card, data, BUDGET) is None


def test_the_reason_stands_in_the_plan(bench: Run, classless) -> None:  # type: ignore[no-untyped-def]
    out = bench("plan", str(classless), "--only", "eds.guidance.cfg,eds.representation.ddim").stdout
    assert "no classes to ask for" in " ".join(out.split())
