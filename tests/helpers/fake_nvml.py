"""A small pynvml: two boards, the second cut into two slices. Calls named in `refused` raise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Refused(Exception):
    """Fake of pynvml.NVMLError."""


class FakeNvml:
    """Fake of pynvml; `answers` replaces what a call returns, e.g. `{"nvmlDeviceGetTemperature": 90}`."""

    NVMLError = Refused

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.answers: dict[str, Any] = {}
        self.opened = 0
        self.energy_mj = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "refused"):
            raise Refused(name)
        answers = object.__getattribute__(self, "answers") if name.startswith("nvml") else {}
        return (
            (lambda *_: answers[name]) if name in answers else object.__getattribute__(self, name)
        )

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65.06"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13010

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"GPU-{index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in ("GPU-0", "GPU-1", "MIG-0", "MIG-1"):
            raise Refused(uuid)
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"NVIDIA H200"

    def nvmlDeviceGetPciInfo(self, handle: str) -> Any:
        return SimpleNamespace(busId=b"00000000:17:00.0")

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        return [int(handle == "GPU-1"), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index > 1:
            raise Refused("not found")
        return f"MIG-{index}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(total=64 << 20, used=3 << 20)

    def nvmlDeviceGetCpuAffinity(self, handle: str, mask_count: int) -> list[int]:
        return [0b101] + [0] * (mask_count - 1)

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetEccMode(self, handle: str) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 700_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=41), SimpleNamespace(pid=42)]

    def nvmlDeviceGetFieldValues(self, handle: str, fields: list[int]) -> list[Any]:
        assert fields == [186]
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=500_000))]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 400_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self.energy_mj += 1000
        return self.energy_mj

    def nvmlDeviceGetClockInfo(self, handle: str, clock: int) -> int:
        return {1: 1980, 2: 3201}[clock]

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 55

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return SimpleNamespace(gpu=90, memory=10)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return 0x4
