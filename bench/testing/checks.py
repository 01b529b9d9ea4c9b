"""The checks, each a small named function that raises `AssertionError` with one line."""

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bench.cards import Heading
from bench.contract import RestoreRequest
from bench.identity.sources import project_imports
from bench.meters.calls import counted, networks
from bench.meters.flops import trajectory_flops
from bench.survey import BUILT_IN, rows
from bench.testing.calls import priced_alone, seen_calls
from bench.testing.played import GPU, bare, played_gpu
from bench.testing.subject import BATCH, Subject

FORBIDDEN = ("bench.meters", "bench.metrics", "bench.harness", "bench.report", "bench.cli", "time", "datetime", "random")


def check_value_semantics(s: Subject) -> None:
    """Default-constructible, frozen, hashable, pickles, final."""
    default = s.registry.build(s.name, {})
    assert pickle.loads(pickle.dumps(default)) == default and hash(default) == hash(s.registry.build(s.name, {}))
    assert getattr(s.cls, "__final__", False), "decorate the class with @final"
    for field in dataclasses.fields(default):  # type: ignore[arg-type]
        try:
            setattr(default, field.name, None)
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError(f"the field {field.name} can be changed")


def check_card(s: Subject) -> None:
    """Complete, true to the path, and every configuration that it names can be built."""
    card, fields = s.cls.card, {f.name for f in dataclasses.fields(s.cls)}  # type: ignore[arg-type]
    assert card.title and card.paper and card.saves and card.likelihood and card.sweep, "no field of the card may be empty"
    known = {row.id: row for row in rows()}
    for row_id in card.rows:
        assert row_id in known, f"the survey has no row {row_id}"
        assert s.name in known[row_id].strategies, f"the survey's row {row_id} belongs to {known[row_id].strategies}"
    if s.cls.__module__.startswith(f"{BUILT_IN}."):
        assert s.name.startswith(f"{card.heading}."), f"the heading {card.heading} does not match the path {s.name}"
        assert card.heading is Heading.CONTROL or (card.rows and card.arxiv), "a published system needs rows and an arXiv id"
    assert set(card.sampling_fields) <= fields, "sampling_fields names something that is no field"
    for overrides in (*card.sweep, *(claim.params for claim in card.claims)):
        s.registry.build(s.name, overrides)


def check_docstring(s: Subject) -> None:
    """The file says what it does, and Paper, Saves, Differs."""
    text = inspect.getdoc(inspect.getmodule(s.cls)) or ""
    for word in ("Paper:", "Saves:", "Differs:"):
        assert word in text, f"the module's docstring lacks '{word}'"


def check_imports(s: Subject) -> None:
    """No meter, metric, store or clock, and no sibling; parts of its own lie in its own folder."""
    source = inspect.getsourcefile(s.cls)
    assert source is not None
    path = Path(source)
    for part in path.parent.glob("*.py") if path.name == "__init__.py" else [path]:
        for imported in project_imports(part, everything=True):
            sibling = imported.split(".")[0] == BUILT_IN and not f"{imported}.".startswith(f"{s.cls.__module__}.")
            bad = sibling or any(imported == f or imported.startswith(f"{f}.") for f in FORBIDDEN)
            assert not bad, f"a strategy must not import {imported}"


def check_shared_modules(s: Subject) -> None:
    """`fit` uses declared assets only, and neither it nor `sample` changes them."""
    for done in (s.fitted, s.drawn):
        assert not done.changed, f"the shared {', '.join(done.changed)} was changed"
        assert not done.unfrozen, f"{', '.join(done.unfrozen)} was unfrozen"


def check_training(s: Subject) -> None:
    """Every step of an optimiser in `fit` is taken inside `kit.evaluated`, and so with networks evaluated as the budget says."""
    outside = s.fitted.steps_outside
    assert not outside, f"{', '.join(sorted(set(outside)))} steps outside of kit.evaluated, times: {len(outside)}"


def check_images(s: Subject) -> None:
    """uint8 (B, C, H, W), not constant, not all alike."""
    images = s.drawn.value
    assert images.dtype == torch.uint8 and tuple(images.shape) == (BATCH, *s.sample_shape), f"{images.dtype} {tuple(images.shape)}"
    assert images.unique().numel() > 1 and not all(torch.equal(images[0], other) for other in images[1:])


def check_deterministic(s: Subject) -> None:
    """The same seeds give the same bits, whatever the global random state."""
    first = s.drawn.value
    torch.manual_seed(12345)
    assert torch.equal(first, s.sample()), "the images depend on the global random state, or on time"


def check_batch_invariance(s: Subject) -> None:
    """Image k is the same whatever else is in the batch: one grey level on 99.9 % of pixels."""
    together = s.drawn.value.int()
    alone = torch.cat([s.sample(seeds=[k]) for k in range(BATCH)]).int()
    share = ((together - alone).abs() <= 1).double().mean()
    assert share >= 0.999, f"only {share:.2%} of pixels are within one grey level"


def check_global_rng(s: Subject) -> None:
    """Neither `fit` nor `sample` moves the global random state."""
    assert not (s.fitted.moved_random_state or s.drawn.moved_random_state), "the global random state was moved"


def check_state_dict(s: Subject) -> None:
    """Everything that sampling needs is in the state dict: a model of another seed that loads it gives the same images."""
    other = s.fit(seed=1)
    other.load_state_dict(s.model.state_dict())
    assert torch.equal(s.drawn.value, s.sample(other)), "the state dict does not hold all of the model"


def check_evaluations(s: Subject) -> None:
    """Counted evaluations grow with `steps`; a model is fitted for each number of them, unless the card says that `fit` never reads it."""
    if "steps" not in {f.name for f in dataclasses.fields(s.cls)} or not networks(s.model):  # type: ignore[arg-type]
        return
    rows_of = []
    for steps in (4, 8):
        strategy = s.registry.build(s.name, {**s.cls.card.sweep[0], "steps": steps})
        model = s.model if "steps" in s.cls.card.sampling_fields else s.fit(strategy=strategy)
        with counted(model) as calls:
            s.sample(model, strategy=strategy)
        rows_of.append(sum(calls.rows.values()))
    assert rows_of[0] < rows_of[1], f"{rows_of[0]} evaluations at 4 steps, {rows_of[1]} at 8"


def check_sampling_fields(s: Subject) -> None:
    """What the card calls sampling fields leaves `fit` alone: other values, the same state dict."""
    fields = s.cls.card.sampling_fields
    others = [{k: v for k, v in o.items() if k in fields} for o in s.cls.card.sweep[1:]]
    if "steps" in fields:
        others.append({"steps": 7})
    for k, overrides in enumerate(others):
        if overrides in others[:k]:
            continue
        model = s.fit(strategy=s.registry.build(s.name, {**s.cls.card.sweep[0], **overrides}))
        for key, value in s.model.state_dict().items():
            assert torch.equal(value, model.state_dict()[key]), f"fit depends on {sorted(overrides)}: {key} differs"


def check_flops(s: Subject) -> None:
    """Each network call seen by hooks, priced alone, and the dispatch counter on the whole trajectory agree to the integer."""
    asked = s.request([0, 1])
    given = asked.operator.children() if isinstance(asked, RestoreRequest) and isinstance(asked.operator, nn.Module) else ()
    with torch.no_grad(), seen_calls([*networks(s.model).values(), *given]) as calls:
        dispatched = trajectory_flops(lambda: s.strategy.sample(s.model, asked)).per_image * len(asked)
    total = priced_alone(calls)
    assert total == dispatched, f"hooks and fvcore count {total}, the dispatch counter {dispatched:.0f}"


def check_on_gpu(s: Subject) -> None:
    """On a GPU, which the processor plays, all tensors keep to it, and images and likelihoods are the processor's."""
    expected, bits = s.drawn.value, s.bits_per_dim()
    images, _ = s.drawn_on_gpu
    with played_gpu():
        bits_on_gpu = s.on_gpu.bits_per_dim()
    assert images.device == GPU, f"the images are on {images.device}"
    assert torch.equal(bare(images), expected), "the images are not those of the processor"
    assert bits is None or torch.equal(bare(bits_on_gpu), bits), "the likelihoods are not those of the processor"


def check_no_waiting(s: Subject) -> None:
    """Between the first and the last evaluation nothing makes the host wait for a GPU: the sampling loop keeps it busy."""
    _, found = s.drawn_on_gpu
    assert not found, f"the loop waits for the device {len(found)} times: {', '.join(sorted(set(found)))}"


def check_likelihood(s: Subject) -> None:
    """Bits per dimension: one finite, positive number an image, whatever the batch."""
    bits, alone = s.bits_per_dim(), s.bits_per_dim([2])
    if bits is None or alone is None:
        return
    assert tuple(bits.shape) == (BATCH,) and bool(bits.isfinite().all()) and bool((bits > 0).all()), f"{bits}"
    away = float((alone - bits[2:3]).abs())
    assert away <= max(0.05, 0.01 * float(bits[2])), f"image 2 has {float(bits[2]):.4f} bits in a batch and {float(alone):.4f} alone"


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_value_semantics,
    check_card,
    check_docstring,
    check_imports,
    check_shared_modules,
    check_training,
    check_images,
    check_deterministic,
    check_batch_invariance,
    check_global_rng,
    check_state_dict,
    check_evaluations,
    check_sampling_fields,
    check_flops,
    check_on_gpu,
    check_no_waiting,
    check_likelihood,
)
