"""A small pynvml: two boards, the second cut into two slices. Calls named in `refused` raise."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any


class Refused(Exception):
    """Fake of pynvml.NVMLError."""


XID = 0x8


class _Sample(ctypes.Structure):
    """An opaque sample of GPM."""


class _MetricInfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_char_p) for name in ("shortName", "longName", "unit"))


class _Metric(ctypes.Structure):
    _fields_ = (
        ("metricId", ctypes.c_uint),
        ("nvmlReturn", ctypes.c_uint),
        ("value", ctypes.c_double),
        ("metricInfo", _MetricInfo),
    )


class GpmRequest(ctypes.Structure):
    """c_nvmlGpmMetricsGet_t of version 1, with room for as many metrics as pynvml 12.560 has."""

    _fields_ = (
        ("version", ctypes.c_uint),
        ("numMetrics", ctypes.c_uint),
        ("sample1", ctypes.POINTER(_Sample)),
        ("sample2", ctypes.POINTER(_Sample)),
        ("metrics", _Metric * 98),
    )


class FakeNvml:
    """Fake of pynvml; `answers` replaces what a call returns, e.g. `{"nvmlDeviceGetTemperature": 90}`.

    Attributes:
        gpm: percent or MiB/s by number of the metric, as the next comparison of samples gives them.
        gpm_status: return code of single metrics, by number.
        samples: by address of each live sample, the board, or board and instance, it was read from.
        xids: (code, GPU instance) of errors that wait to be read.
    """

    NVMLError = Refused
    NVML_GPM_METRICS_GET_VERSION = 1
    c_nvmlGpmMetricsGet_t = GpmRequest  # noqa: N815

    def __init__(self) -> None:
        self.gpm = {2: 50.0, 10: 91.0, 21: 1000.0}
        self.gpm_status: dict[int, int] = {}
        self.samples: dict[int, Any] = {}
        self.xids: list[tuple[int, int]] = []
        self.event_sets = 0
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

    def nvmlDeviceGetRemappedRows(self, handle: str) -> tuple[int, int, int, int]:
        return 1, 2, 0, 0

    def nvmlDeviceGetTotalEccErrors(self, handle: str, error: int, counter: int) -> int:
        assert counter == 0
        return {0: 7, 1: 0}[error]

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: str) -> int:
        return 5

    def nvmlDeviceGetMaxClockInfo(self, handle: str, clock: int) -> int:
        return {1: 1980, 2: 3201}[clock]

    def nvmlDeviceGetMemoryBusWidth(self, handle: str) -> int:
        return 6144

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: str) -> int:
        return 16

    # --- MIG: the handle of a slice is no handle of a board -------------------------------------

    def nvmlDeviceGetGpuInstanceId(self, handle: str) -> int:
        if not handle.startswith("MIG-"):
            raise Refused("not a slice")
        return 7 + int(handle[-1])

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        if not handle.startswith("MIG-"):
            raise Refused("not a slice")
        return "GPU-1"

    # --- events -------------------------------------------------------------------------------------

    def nvmlEventSetCreate(self) -> object:
        self.event_sets += 1
        return object()

    def nvmlDeviceRegisterEvents(self, handle: str, types: int, events: object) -> None:
        if not handle.startswith("GPU-"):
            raise Refused("slices have no events")
        assert types == XID

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not self.xids:
            raise Refused("timeout")
        code, instance = self.xids.pop(0)
        return SimpleNamespace(eventType=XID, eventData=code, gpuInstanceId=instance)

    def nvmlEventSetFree(self, events: object) -> None:
        self.event_sets -= 1

    # --- GPM ----------------------------------------------------------

    def nvmlGpmQueryDeviceSupport(self, handle: str) -> Any:
        if not handle.startswith("GPU-"):
            raise Refused("not a board")
        return SimpleNamespace(version=1, isSupportedDevice=1)

    def nvmlGpmSampleAlloc(self) -> Any:
        memory = _Sample()
        sample = ctypes.pointer(memory)
        self.samples[ctypes.addressof(memory)] = None
        return sample

    def nvmlGpmSampleGet(self, handle: str, sample: Any) -> Any:
        self.samples[ctypes.addressof(sample.contents)] = handle
        return sample

    def nvmlGpmMigSampleGet(self, handle: str, instance: int, sample: Any) -> Any:
        self.samples[ctypes.addressof(sample.contents)] = (handle, instance)
        return sample

    def nvmlGpmMetricsGet(self, request: Any) -> Any:
        assert request.version == 1
        addresses = [ctypes.addressof(s.contents) for s in (request.sample1, request.sample2)]
        first, second = (self.samples[address] for address in addresses)
        assert addresses[0] != addresses[1]
        if first is None or first != second:
            raise Refused("invalid argument")
        for metric in request.metrics[: request.numMetrics]:
            metric.nvmlReturn = self.gpm_status.get(metric.metricId, 0)
            metric.value = self.gpm.get(metric.metricId, 0.0)
        return request

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        del self.samples[ctypes.addressof(sample.contents)]
