"""The state of a device: a fake card whose readings are known, and this machine's own processor."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.harness.machine import system
from bench.measures import Measure, measured, missing
from bench.meters.conditions import State, conditions_between, gpu_state, state_of


class Card:
    """An NVML of one card: 1410 MHz, 61 C, a power cap, this process and two others on it."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU, NVML_DEVICE_MIG_ENABLE = 1, 0, 1

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-abc":
            raise self.NVMLError("not found")
        return uuid

    def nvmlDeviceGetMigMode(self, _handle: str) -> Any:
        raise self.NVMLError("no MIG")

    def nvmlDeviceGetClockInfo(self, _handle: str, _kind: int) -> int:
        return 1410

    def nvmlDeviceGetTemperature(self, _handle: str, _sensor: int) -> int:
        return 61

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle: str) -> int:
        return 4

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in (os.getpid(), 1, 2)]


class Dumb(Card):
    """A card that tells its clock and nothing else."""

    def nvmlDeviceGetTemperature(self, _handle: str, _sensor: int) -> int:
        raise self.NVMLError("not supported")


def test_card() -> None:
    state = gpu_state("abc", Card())
    assert [m.value for m in (state.clock_mhz, state.temperature_c, state.throttle, state.foreign)] == [1410, 61, 4, 2]


def test_what_a_card_does_not_tell_has_a_reason() -> None:
    state = gpu_state("abc", Dumb())
    assert state.clock_mhz.value == 1410 and "not supported" in (state.temperature_c.reason or "")
    assert all(m.value is None and m.reason for m in (gpu_state("other", Card()).clock_mhz, gpu_state("other", Card()).foreign))


def state(throttle: Measure, foreign: Measure) -> State:
    return State(clock_mhz=measured(1), temperature_c=measured(2), throttle=throttle, foreign=foreign, load=measured(0.5))


def test_both_ends_count() -> None:
    found = conditions_between(state(measured(4), measured(0)), state(measured(1), measured(3)))
    assert found.throttle.value == 5 and found.foreign_processes.value == 3
    found = conditions_between(state(missing("no"), measured(0)), state(measured(1), measured(3)))
    assert found.throttle.reason == "no"


def test_this_processor() -> None:
    state = state_of(torch.device("cpu"))
    assert all((m.value is None) != (m.reason is None) for m in (state.clock_mhz, state.temperature_c, state.load))
    assert state.throttle.reason and state.foreign.reason


def test_the_allocators_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without them would not say why the same processor is slower elsewhere."""
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    assert "MALLOC_TOP_PAD_" not in system()
    monkeypatch.setenv("MALLOC_TOP_PAD_", "67108864")
    assert ", MALLOC_TOP_PAD_=67108864" in system()
