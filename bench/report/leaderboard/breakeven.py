"""After how many images a costlier training has paid off in energy, against a baseline of the same device.

With E the energy of all training, own and inherited, and e that of one image, the totals E + n e and E_base + n e_base meet at
n = (E - E_base) / (e_base - e). Pure functions.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bench.measures import Measure, missing

Key = TypeVar("Key", bound=Hashable)
BASELINES = ("eds.representation.ddim", "eds.state_space.ddpm")  # the first that has a row, at its most steps


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Energy in kWh of training and of drawing one image, as `source` gives it: figures of two sources are not compared.

    `place` is all that a row shares with its baseline: data set and device.
    """

    name: str
    strategy: str
    place: tuple[str, ...]
    steps: float | None
    train_kwh: Measure
    image_kwh: Measure
    source: str


def baseline(rows: Iterable[Footprint]) -> Footprint | None:
    """Of the rows of one device and task: the default sampler at its most steps; None where neither DDIM nor DDPM has a row."""
    known = list(rows)
    for strategy in BASELINES:
        found = [row for row in known if row.strategy == strategy and row.steps is not None]
        if found:
            return min(found, key=lambda row: (-(row.steps or 0.0), row.name))
    return None


def breakeven(ours: Footprint, base: Footprint | None) -> Measure:
    """Images until the totals meet, where training costs more and an image less; else the reason why there is no such number.

    The interval is that of the energies of an image, half-widths added in squares; where it holds no saving, nothing is told. What one
    image makes up for is no difference of training: a `fit` that trains nothing still takes some microseconds.
    """
    if base is None:
        return missing(f"no baseline: neither {' nor '.join(BASELINES)} has a row on this device and task")
    if ours.name == base.name:
        return missing("not applicable: the baseline itself")
    measures = (ours.train_kwh, base.train_kwh, ours.image_kwh, base.image_kwh)
    if empty := [m.reason for m in measures if m.value is None]:
        return missing(f"no energy: {empty[0]}")
    if ours.source != base.source:
        return missing(f"measured differently: {ours.source} | {base.source}")
    train, train_base, image, image_base = (m.value for m in measures if m.value is not None)
    reach = _reach(ours.image_kwh, base.image_kwh)
    return _judged(train - train_base, image_base - image, reach, f"against {base.name}, {ours.source}")


def _judged(extra: float, saving: float, reach: float, method: str) -> Measure:
    """Of extra training and the saving of an image, known within +- reach; all in kWh."""
    if reach > 0 and abs(saving) <= reach:
        return missing("not told: the energies of an image agree within their intervals")
    if saving > 0 and extra > saving:
        low, high = (extra / (saving + reach), extra / (saving - reach)) if reach else (None, None)
        return Measure(value=extra / saving, low=low, high=high, method=method)
    if saving > 0 or (saving == 0 and extra <= 0):
        return missing("pays off at once: training costs no more than the baseline's, nor does an image")
    if extra >= saving:
        return missing("never pays off: training costs no less than the baseline's, nor does an image")
    return missing(f"ahead at first: cheaper training is used up after {extra / saving:.3g} images, each costlier than the baseline's")


def breakevens(rows: Mapping[Key, Footprint]) -> tuple[dict[Key, Measure], dict[Key, str]]:
    """The break-even of each row against the baseline of its place, and the name of that baseline where there is one."""
    places: dict[tuple[str, ...], list[Footprint]] = {}
    for row in rows.values():
        places.setdefault(row.place, []).append(row)
    bases = {place: baseline(found) for place, found in places.items()}
    names = {key: base.name for key, row in rows.items() if (base := bases[row.place]) is not None}
    return {key: breakeven(row, bases[row.place]) for key, row in rows.items()}, names


def _reach(a: Measure, b: Measure) -> float:
    """Half-width of the interval of a difference of independent values; a value without interval adds nothing."""
    halves = [(m.high - m.low) / 2 for m in (a, b) if m.low is not None and m.high is not None]
    return math.hypot(*halves)
