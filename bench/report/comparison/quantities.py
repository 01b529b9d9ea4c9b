"""What two strategies are compared in: the scores of a record and its costs, and for each which way is better."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from bench.measures import Measure
from bench.report.leaderboard.board import Getter, score, training
from bench.values import Record


class Kind(StrEnum):
    QUALITY = "quality"
    COST = "cost"


class Goal(StrEnum):
    LOWER = "lower is better"
    HIGHER = "higher is better"


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One thing to compare. Costs bear their units in their keys.

    counted: the same in every repetition (operations, parameters), hence compared without an interval.
    condition: what it was measured on or with, and what both sides must have in common: a device, a source, a feature extractor.
    """

    key: str
    kind: Kind
    goal: Goal
    get: Getter
    counted: bool = False
    condition: Callable[[Record], str] = lambda _record: ""


SCORES = {  # by the first word of a score's key; what stands not here ranks nobody (two halves; copies: noise has none)
    "fid": Goal.LOWER,
    "fd": Goal.LOWER,
    "kid": Goal.LOWER,
    "inception": Goal.HIGHER,
    "cs": Goal.HIGHER,
    "precision": Goal.HIGHER,
    "recall": Goal.HIGHER,
    "class": Goal.HIGHER,
    "nll": Goal.LOWER,
    "psnr": Goal.HIGHER,
    "ssim": Goal.HIGHER,
    "feature": Goal.LOWER,
}


def _sampling(name: str) -> Getter:
    """A field of the sampling cost, with its interval."""

    def get(record: Record) -> Measure:
        found = getattr(record.sample, name)
        assert isinstance(found, Measure)
        return found

    return get


def _counted(key: str, get: Getter | None = None) -> Quantity:
    return Quantity(key=key, kind=Kind.COST, goal=Goal.LOWER, get=get or _sampling(key), counted=True)


def _device(record: Record) -> str:
    return record.provenance.device


def _energy_source(record: Record) -> str:
    assert record.sample is not None
    return f"{record.sample.energy.source} on {_device(record)}"


def _metered(key: str, get: Getter | None = None, goal: Goal = Goal.LOWER, condition: Callable[[Record], str] = _device) -> Quantity:
    return Quantity(key=key, kind=Kind.COST, goal=goal, get=get or _sampling(key), condition=condition)


COSTS = (
    _counted("steps"),
    _counted("nfe_per_image"),
    _counted("flops_per_image"),
    _counted("params"),
    _counted("buffer_bytes"),
    _metered("latency_p50_s"),
    _metered("latency_p95_s"),
    _metered("images_per_s", goal=Goal.HIGHER),
    _metered("peak_bytes"),
    _metered("peak_total_bytes"),
    _metered("sampling_kwh", lambda record: record.sample.energy.kwh, condition=_energy_source),  # type: ignore[union-attr]
    _counted("training_images_seen", training("images_seen")),
    _metered("training_device_s", training("device_s")),
)


def quantities(records: Iterable[Record]) -> tuple[Quantity, ...]:
    """Every score that some record has, in the order of SCORES, then the costs."""
    families = list(SCORES)
    keys = {key for record in records for key in record.scores if _family(key) in SCORES}
    ordered = sorted(keys, key=lambda key: (families.index(_family(key)), key))
    return (*(_score(key) for key in ordered), *COSTS)


def _score(key: str) -> Quantity:
    get = score(key)
    return Quantity(key=key, kind=Kind.QUALITY, goal=SCORES[_family(key)], get=get, condition=lambda record: str(get(record).method))


def _family(key: str) -> str:
    return key.split("_")[0]
