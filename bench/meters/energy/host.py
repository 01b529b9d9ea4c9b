"""Energy of processor and memory through codecarbon, offline."""

import logging
from typing import Any, ClassVar

from bench.measures import EnergySource, Measure, measured, missing
from bench.meters.energy.carbon import WORLD

HOST_SOURCES = {  # by codecarbon's mode of reading the processor
    "intel_rapl": EnergySource.RAPL,
    "windows_emi": EnergySource.RAPL,
    "cpu_load": EnergySource.ESTIMATED_LOAD,
    "constant": EnergySource.CONSTANT,
}


class Host:
    """Processor and memory of this process, one stretch at a time.

    `sharers` are the workers that this processor is divided among, this process one of them.
    """

    sharers: ClassVar[int] = 1

    def __init__(self) -> None:
        logging.getLogger("codecarbon").disabled = True
        from codecarbon import OfflineEmissionsTracker  # inside: two seconds of imports and hardware scan

        self._tracker: Any = OfflineEmissionsTracker(
            save_to_file=False,
            log_level="critical",
            tracking_mode="process",
            allow_multiple_runs=True,
            measure_power_secs=1,
            force_carbon_intensity_g_co2e_kwh=WORLD.g_per_kwh,  # keeps it from asking where it is; its carbon is not read
            pue=1.0,
            gpu_ids=[],
        )

    @property
    def source(self) -> EnergySource | None:
        """How codecarbon reads the processor, None if in a way unknown here. Settled by the first `start`."""
        modes = (getattr(part, "_mode", None) for part in self._tracker._hardware)  # told nowhere else
        return next((HOST_SOURCES[mode] for mode in modes if mode in HOST_SOURCES), None)

    def start(self) -> None:
        self._tracker.start_task()

    def kwh(self) -> Measure:
        """End the stretch that `start` began."""
        data = self._tracker.stop_task()
        if data is None:
            return missing("failed: codecarbon reported nothing")
        if self.source is EnergySource.RAPL and self.sharers > 1:
            return missing(f"not measured: RAPL counts the whole processor, which {self.sharers} workers share")
        return measured(data.cpu_energy + data.ram_energy)  # not its total, to which a second tracker of a process adds all GPUs


def host_source() -> EnergySource | None:
    """How this machine's processor would be read."""
    host = Host()
    host.start()
    host.kwh()
    return host.source
