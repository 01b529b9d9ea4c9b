"""What the conformance checks share is watched: each fault of a fit, or of a sample, fails the check of that fault, and no other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.registry import discover
from bench.testing.checks import (
    check_batch_invariance,
    check_deterministic,
    check_evaluations,
    check_global_rng,
    check_images,
    check_likelihood,
    check_sampling_fields,
    check_shared_modules,
    check_state_dict,
    check_training,
)
from bench.testing.subject import Subject, asset_on, tiny_assets
from tests.conftest import forget_plugins

CHECKS = (
    check_shared_modules,
    check_training,
    check_images,
    check_deterministic,
    check_batch_invariance,
    check_global_rng,
    check_state_dict,
    check_evaluations,
    check_sampling_fields,
    check_likelihood,
)
SOUND = '''
"""A strategy without a fault, whose one network is called at every step."""
from dataclasses import dataclass
from typing import ClassVar, final
import torch
from torch import nn
from bench.cards import AssetName, Card, Heading
from bench.contract import Strategy
from bench.data.images import padded, to_uint8
from bench.nets.ema import seeded
from bench.registry import register

@register
@final
@dataclass(frozen=True, kw_only=True)
class Sound(Strategy):
    steps: int = 2
    card: ClassVar[Card] = Card(title="Sound", paper="none", year=2026, arxiv=None, heading=Heading.CONTROL, rows=(), saves="nothing",
                                assets=(AssetName.DENOISER,), likelihood="not applicable: a test", sampling_fields=("steps",),
                                sweep=({"steps": 2}, {"steps": 3}))

    def fit(self, kit):
        with seeded(kit.seed):
            model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
        shared = kit.denoiser()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        with kit.evaluated(model):
            optimiser.step()
        # within fit
        return model.eval()

    def sample(self, model, request):
        x = request.draws().normal(*padded(request.shape))
        for _ in range(self.steps):
            x = x + 0.1 * model(x)
        # within sample
        return to_uint8(x, request.shape)
'''
FIT, SAMPLE = "# within fit", "# within sample"
FAULTS = {  # what is put in the place of what, and the checks that then fail
    "a fit changes a shared network": (FIT, "next(shared.parameters()).data.add_(0.01)", {check_shared_modules}),
    "a fit unfreezes a shared network": (FIT, "shared.requires_grad_(True)", {check_shared_modules}),
    "a fit draws from the global state": (FIT, "torch.rand(1)", {check_global_rng}),
    "a fit steps outside": (FIT, "optimiser.step()", {check_training}),
    "a fit reads a sampling field": (FIT, "model[0].bias.data.fill_(0.01 * self.steps)", {check_sampling_fields}),
    "a model keeps something back": (FIT, "model.shift = 0.1 * kit.seed", {check_state_dict}),
    "a sample changes a shared network": (SAMPLE, "next(model.shared[0].parameters()).data.add_(0.01)", {check_shared_modules}),
    "a sample unfreezes a shared network": (SAMPLE, "model.shared[0].requires_grad_(True)", {check_shared_modules}),
    "a sample draws from the global state": (SAMPLE, "torch.rand(1)", {check_global_rng}),
    "a sample is made of the global state": (
        SAMPLE,
        "x = x + torch.randn(x.shape)",
        {check_deterministic, check_batch_invariance, check_global_rng, check_state_dict},
    ),
    "a sample changes its model": (
        SAMPLE,
        "model[0].bias.data.add_(0.1)",
        {check_deterministic, check_batch_invariance, check_state_dict, check_sampling_fields},
    ),
    "an image depends on its batch": (SAMPLE, "x = x - x.mean()", {check_batch_invariance}),
    "images are all alike": (SAMPLE, "x = x[:1].expand_as(x)", {check_images, check_batch_invariance}),
    "steps cost nothing": ("range(self.steps)", "range(3)", {check_evaluations}),
}


@pytest.fixture(autouse=True)
def assets() -> Iterator[None]:
    """Networks that a faulty strategy has changed are not those of other tests."""
    yield
    forget_plugins()
    tiny_assets.cache_clear()
    asset_on.cache_clear()


def failing(folder: Path, code: str) -> set[object]:
    """The checks that this strategy fails, all on one subject."""
    (folder / "mine.py").write_text(code)
    subject, failed = Subject("user.mine", discover((folder / "mine.py",))), set()
    torch.manual_seed(12345)  # the global state as the checks of another strategy leave it
    for check in CHECKS:
        try:
            check(subject)
        except AssertionError:
            failed.add(check)
    return failed


def test_a_sound_strategy_fails_none(tmp_path: Path) -> None:
    assert failing(tmp_path, SOUND) == set()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_its_own_checks(name: str, tmp_path: Path) -> None:
    place, fault, wanted = FAULTS[name]
    assert SOUND.count(place) == 1
    code = SOUND.replace(place, fault)
    code = code.replace("return model.eval()", "model.shared = [shared]\n        return model.eval()")
    code = code.replace("+ 0.1 * model(x)", "+ 0.1 * model(x) + getattr(model, 'shift', 0.0)")
    assert failing(tmp_path, code) == wanted
