"""Carbon intensity of electricity by place, from the data that codecarbon ships (read without importing codecarbon, which is slow)."""

import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.hints import near
from bench.values import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A country by its ISO 3166-1 alpha-3 code, or the world for None; grams of CO2 equivalent per kWh of electricity.

    `year` is that of the data, None where `source` does not tell it.
    """

    iso: str | None
    g_per_kwh: float
    year: int | None
    source: str

    @property
    def name(self) -> str:
        return self.iso or "world"


def place(iso: str | None) -> Place:
    """The country of an ISO code, or the world for None. An unknown code, and one without a figure, is a `UserError`."""
    package = f"codecarbon {importlib.metadata.version('codecarbon')}"
    if iso is None:
        per_source = _data("carbon_intensity_per_source.json")
        mean = float(per_source["world_average"])
        return Place(iso=None, g_per_kwh=mean, year=None, source=f"{package}, from {per_source['world_average_source']}")
    countries, code = _data("global_energy_mix.json"), iso.strip().upper()
    if code not in countries:
        raise UserError(f"unknown place '{iso}'{near(code, countries)} (an ISO 3166-1 code of three letters, like FRA)")
    row = countries[code]
    if not row.get("carbon_intensity"):  # a zero is no figure either: no source of electricity is free of carbon
        raise UserError(f"{package} has no carbon intensity for {row['country_name']} ({code})")
    return Place(iso=code, g_per_kwh=float(row["carbon_intensity"]), year=int(row["year"]), source=f"{package}, global_energy_mix")


@lru_cache(maxsize=2)
def _data(file: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("codecarbon")
    assert spec is not None and spec.submodule_search_locations
    return dict(json.loads((Path(spec.submodule_search_locations[0]) / "data" / "private_infra" / file).read_text(encoding="utf-8")))


WORLD = place(None)
