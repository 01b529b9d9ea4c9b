"""Places with their carbon intensity, and GPU-days with their factors."""

import subprocess
import sys

import pytest
import torch

from bench.meters.energy.carbon import WORLD, place
from bench.meters.gpudays import gpu_days, table, v100_days
from bench.values import UserError
from tests.fakes import reason, value

CPU = torch.device("cpu")
JOULES_PER_KWH = 3.6e6
UUID = "3c9a1f00-0000-0000-0000-000000000001"


@pytest.mark.parametrize("iso", ["FRA", "USA", "CHN", "POL"])
def test_factors_are_those_that_codecarbon_applies(iso: str) -> None:
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy as Kwh
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    kg = Emissions(DataSource()).get_country_emissions(Kwh.from_energy(kWh=1.0), GeoMetadata(country_iso_code=iso))
    assert place(iso).g_per_kwh == pytest.approx(1000 * kg, rel=1e-12)
    year = place(iso).year
    assert year is not None and 2000 < year < 2100


def test_places() -> None:
    assert place(" fra") == place("FRA") and place("FRA").name == "FRA"
    assert place(None) == WORLD and (WORLD.iso, WORLD.name, WORLD.year) == (None, "world", None)
    assert "iea.org" in WORLD.source and 100 < WORLD.g_per_kwh < 1000
    with pytest.raises(UserError, match=r"unknown place 'FRB'; did you mean .*'FRA'"):
        place("FRB")
    with pytest.raises(UserError, match="three letters, like FRA"):
        place("Atlantis")
    with pytest.raises(UserError, match="no carbon intensity for Central African Republic"):
        place("CAF")


def test_places_and_days_are_light() -> None:
    code = "import sys, bench.meters.energy.carbon, bench.meters.gpudays; print(*{'torch', 'codecarbon', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


# --- GPU-days ---


@pytest.mark.parametrize(
    ("device", "factor"),
    [
        ("Tesla V100-SXM2-16GB", 1.0),
        ("NVIDIA A100-SXM4-80GB", 2.2),
        ("NVIDIA A100 80GB PCIe", 2.2),
        ("NVIDIA H100 80GB HBM3", 989.4 / 125),
        ("NVIDIA H100 PCIe", 756 / 125),
        ("NVIDIA H200", 989.5 / 125),
    ],
)
def test_v100_days(device: str, factor: float) -> None:
    days = v100_days(43_200, device, count=4)
    assert value(days) == pytest.approx(2 * factor, rel=1e-4)
    assert days.method is not None and device in days.method
    assert value(gpu_days(43_200, device, count=4)) == 2.0


@pytest.mark.parametrize(
    "device", ["NVIDIA A100-SXM4-80GB MIG 1g.10gb", "Tesla V100S-PCIE-32GB", "NVIDIA A1000", "NVIDIA L4", "NVIDIA H200 NVL"]
)
def test_a_device_without_factor_has_no_v100_days(device: str) -> None:
    assert reason(v100_days(43_200, device)) == f"not measured: no V100 factor for {device}"
    assert value(gpu_days(43_200, device)) == 0.5


def test_a_cpu_has_no_gpu_days() -> None:
    assert reason(v100_days(43_200, "CPU AMD EPYC, 2 cores")) == reason(gpu_days(43_200, "cpu"))
    assert reason(gpu_days(43_200, "cpu")).startswith("not applicable")


def test_every_factor_has_a_source() -> None:
    version, rows = table()
    assert int(version) >= 1 and len(rows) >= 2
    for row in rows:
        assert row.factor > 0 and row.source and row.method and row.verified in ("direct", "secondary")
