"""How to get each number of the leaderboard from a record: as a measure, with its interval or with the reason why there is none."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from bench.cards import Heading
from bench.measures import NOT_RECORDED, Energy, EnergySource, Measure, TrainCost, measured, missing
from bench.suites.suite import OWN
from bench.values import Record, Status

Getter = Callable[[Record], Measure]
READINGS = (EnergySource.NVML_COUNTER, EnergySource.NVML_POWER, EnergySource.RAPL)


def score(key: str) -> Getter:
    absent = missing("not in this suite")
    return lambda r: r.scores.get(key, absent)


def copied(record: Record) -> Measure:
    """The share of copies; records of suites with the own classifier lack it if they are older than the measure."""
    absent = NOT_RECORDED if OWN in record.cell.extractors else missing("not in this suite")
    return record.scores.get("copied", absent)


def times(measure: Measure, factor: float) -> Measure:
    """A measure in another unit, with its interval; `factor` is positive."""
    if measure.value is None:
        return measure
    low, high = (None if bound is None else bound * factor for bound in (measure.low, measure.high))
    return Measure(value=measure.value * factor, low=low, high=high, n=measure.n, method=measure.method)


def scaled(get: Getter, factor: float) -> Getter:
    return lambda record: times(get(record), factor)


def cost(name: str, factor: float = 1.0) -> Getter:
    """A field of the sampling cost."""
    return scaled(lambda r: getattr(r.sample, name), factor)


def energy_per_image(field: str, factor: float = 1.0) -> Getter:
    """kWh or kg of the sampling run, per image, times factor."""
    of_run = attrgetter(f"sample.energy.{field}")
    return lambda r: times(of_run(r), factor / r.cell.budget.n_samples)


def training(field: str) -> Getter:
    """A field of the training cost (`device_s`, `energy.kwh`), own and inherited together; absent as soon as one part is."""
    return lambda r: _sum(field, [*_own(r), *r.inherited.values()])


def trained(field: str) -> Getter:
    """A field of the strategy's own training cost."""
    return lambda r: _sum(field, _own(r))


def inherited(field: str) -> Getter:
    """A field of the shared parts' training cost, charged in full to each user; nothing where no part is used."""
    return lambda r: _sum(field, r.inherited.values())


def half(heading: Heading) -> str:
    """The half of the survey's taxonomy: `EDS` of design, `EPS` of process, or `control`."""
    name = heading.split(".")[0]
    return name if heading is Heading.CONTROL else name.upper()


def estimator(record: Record) -> str:
    """How the likelihood was had: the measure's method, else the card's word for it; `none` where there is no likelihood."""
    if record.status is not Status.OK:
        return failure(record)
    found = score("nll_bits_per_dim")(record)
    return "none" if found.value is None else found.method or record.card.likelihood


def energy_source(record: Record) -> str:
    """Whether the energy of sampling is an estimate or a reading, and by what: `reading (nvml_counter) + estimate (constant)`."""
    if record.status is not Status.OK or record.sample is None:
        return failure(record)
    energy: Energy = record.sample.energy
    if energy.source is None:
        return "none"
    host = energy.host_source if energy.host_source not in (None, energy.source) else None
    return _kind(energy.source) + (f" + {_kind(host)}" if host else "")


def best_batches(records: Sequence[Record]) -> str:
    """The batches at which images a second were measured, over seeds: `256/512`; of a row without any, its first reason."""
    found = [cost("best_batch")(r) if r.status is Status.OK else missing(failure(r)) for r in records]
    values = sorted({m.value for m in found if m.value is not None})
    return "/".join(f"{value:.0f}" for value in values) or str(found[0].reason)


def failure(record: Record) -> str:
    """Status and reason of a record that is not OK."""
    return f"{record.status}: {record.reason}"


def _kind(source: EnergySource) -> str:
    return f"{'reading' if source in READINGS else 'estimate'} ({source})"


def _own(record: Record) -> list[TrainCost]:
    assert record.train is not None
    return [record.train]


def _sum(field: str, costs: Iterable[TrainCost]) -> Measure:
    get = attrgetter(field)
    parts: list[Measure] = [get(cost) for cost in costs]
    empty = next((part for part in parts if part.value is None), None)
    return empty or measured(sum(part.value for part in parts if part.value is not None))
