"""Energy and power of one NVIDIA GPU, read through NVML. The GPU is found by its UUID, as NVML's indices know no CUDA_VISIBLE_DEVICES.

The hardware's energy counter (Volta and newer) comes first, the integral of polled power second, and a reason third. Every figure is the
whole card's: a MIG slice has none of its own, and gets a reason. Power readings of Ampere and newer are means over the second before
them (NVML reference, nvmlDeviceGetPowerUsage), so an integral over less than a few seconds is late by that much.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

from bench.measures import EnergySource, Measure, measured, missing

POLL_S = 0.025
IDLE_POLLS, IDLE_POLL_S = 20, 0.05
SLICE = "not measured: this device is a MIG slice, and NVML reads whole cards"


class Nvml(Protocol):
    """What is used of the module `pynvml`. Energies are in millijoules, powers in milliwatts."""

    @property
    def NVMLError(self) -> type[Exception]: ...
    @property
    def NVML_DEVICE_MIG_ENABLE(self) -> int: ...

    def nvmlInit(self) -> None: ...
    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any: ...
    def nvmlDeviceGetMigMode(self, handle: Any) -> Any: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...


class NoReading(Exception):
    """There is no figure. The message is the reason, as a record holds it."""


class GpuEnergy(Protocol):
    """A running total of one GPU's energy. `refresh_s` is the time between two movements of the total."""

    @property
    def source(self) -> EnergySource | None: ...
    @property
    def refresh_s(self) -> float: ...

    def start(self) -> None:
        """Make ready for readings."""

    def joules(self) -> float:
        """Joules since an arbitrary origin that stays until `stop`; raises `NoReading`."""

    def stop(self) -> None:
        """Free what `start` took."""


@dataclass(frozen=True)
class GpuBoard:
    """One card, as NVML shows it."""

    nvml: Nvml
    handle: Any

    def joules(self) -> float:
        """Joules since the driver was loaded; raises `NoReading`."""
        return self._read(self.nvml.nvmlDeviceGetTotalEnergyConsumption)

    def watts(self) -> float:
        """Power now; raises `NoReading`."""
        return self._read(self.nvml.nvmlDeviceGetPowerUsage)

    def _read(self, function: Callable[[Any], int]) -> float:
        try:
            return function(self.handle) / 1000
        except self.nvml.NVMLError as error:
            raise NoReading(f"failed: NVML gave no reading ({error})") from error


@dataclass(frozen=True)
class EnergyCounter:
    """The hardware counter, which moves about every 100 ms (Zeus, ml.energy)."""

    board: GpuBoard
    source = EnergySource.NVML_COUNTER
    refresh_s = 0.1

    def start(self) -> None: ...

    def joules(self) -> float:
        return self.board.joules()

    def stop(self) -> None: ...


class PolledPower:
    """The integral of polled power by the trapezoidal rule: a thread polls each `period_s`, and each reading of the total polls as well.

    One poll that fails makes the total unknown until the next `start`.
    """

    source = EnergySource.NVML_POWER
    refresh_s = 0.0

    def __init__(self, watts: Callable[[], float], period_s: float = POLL_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._watts, self._period_s, self._clock = watts, period_s, clock
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._joules = 0.0
        self._last: tuple[float, float] | None = None  # time in s, power in W
        self._lost: NoReading | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._joules, self._last, self._lost = 0.0, None, None
        self._stop.clear()
        self._poll()
        self._thread = threading.Thread(target=self._keep_polling, daemon=True)
        self._thread.start()

    def joules(self) -> float:
        self._poll()
        if self._lost is not None:
            raise self._lost
        return self._joules

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _keep_polling(self) -> None:
        while not self._stop.wait(self._period_s):
            self._poll()

    def _poll(self) -> None:
        with self._lock:
            try:
                now, watts = self._clock(), self._watts()
            except NoReading as error:
                self._lost = error
                return
            if self._last is not None:
                then, before = self._last
                self._joules += (now - then) * (watts + before) / 2
            self._last = now, watts


@dataclass(frozen=True)
class NoGpuEnergy:
    """A GPU whose energy cannot be had, and why."""

    reason: str
    source = None
    refresh_s = 0.0

    def start(self) -> None: ...

    def joules(self) -> float:
        raise NoReading(self.reason)

    def stop(self) -> None: ...


def gpu_energy(uuid: str, nvml: Nvml = pynvml) -> GpuEnergy:
    """The best source that the GPU of this UUID (without prefix) has. One that reads zero is none: boards without a counter do that."""
    try:
        board = find(uuid, nvml)
    except NoReading as error:
        return NoGpuEnergy(str(error))
    if _positive(board.joules):
        return EnergyCounter(board)
    if _positive(board.watts):
        return PolledPower(board.watts)
    return NoGpuEnergy("not measured: this GPU reports neither its energy nor its power")


def idle_power_w(uuid: str, nvml: Nvml = pynvml, sleep: Callable[[float], None] = time.sleep) -> Measure:
    """Mean power, in W, of a GPU that is given nothing to do: 20 polls over a second."""
    polls = []
    try:
        board = find(uuid, nvml)
        for _ in range(IDLE_POLLS):
            polls.append(board.watts())
            sleep(IDLE_POLL_S)
    except NoReading as error:
        return missing(str(error))
    if max(polls) <= 0:
        return missing("not measured: this GPU reports no power")
    return measured(sum(polls) / len(polls), n=len(polls), method=f"NVML power, polls {IDLE_POLL_S:g} s apart")


def find(uuid: str, nvml: Nvml) -> GpuBoard:
    """The card of this UUID; raises `NoReading` for one that NVML does not show, and for a slice of a card."""
    try:
        nvml.nvmlInit()
        board = GpuBoard(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except nvml.NVMLError as error:
        if _is_slice(uuid, nvml):
            raise NoReading(SLICE) from error
        raise NoReading(f"not measured: NVML does not show this GPU ({error})") from error
    if _is_sliced(board):
        raise NoReading(SLICE)
    return board


def _is_slice(uuid: str, nvml: Nvml) -> bool:
    try:
        nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
    except nvml.NVMLError:
        return False
    return True


def _is_sliced(board: GpuBoard) -> bool:
    """CUDA may give a slice the UUID of its card."""
    try:
        return bool(board.nvml.nvmlDeviceGetMigMode(board.handle)[0] == board.nvml.NVML_DEVICE_MIG_ENABLE)
    except board.nvml.NVMLError:
        return False  # a card that knows no MIG


def _positive(read: Callable[[], float]) -> bool:
    try:
        return read() > 0
    except NoReading:
        return False
