"""GPM: how busy the parts of a GPU were, by its own counters (Hopper and later).

The driver compares two samples of the counters and gives means over the time between them. Unlike
profilers it needs no privilege and no exclusive use of the chip. Where the chip, the driver or the
permission lacks it there are no values. Read on an H200 (driver 580) without privilege, beside streams.
MIG slices have not been read yet.
"""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.machine.nvml import Nvml

MIN_INTERVAL_S = 0.1
"""NVML asks for more than this between two samples: its counters are renewed in steps."""
LEAST_COVERED = 0.9
"""Share of a window that intervals must cover for a mean: the last one may be missing."""
_PERCENT, _MIB = 0.01, 2**20


class Metric(NamedTuple):
    """A metric of GPM.

    Attributes:
        column: of the tables `trials` and `workers`.
        number: NVML_GPM_METRIC_...
        unit: factor from the driver's unit to the column's.
    """

    column: str
    number: int
    unit: float


METRICS = (
    Metric("gpu_sm_frac", 2, _PERCENT),  # SM_UTIL
    Metric("gpu_occupancy_frac", 3, _PERCENT),  # SM_OCCUPANCY
    Metric("gpu_tensor_frac", 5, _PERCENT),  # ANY_TENSOR_UTIL
    Metric("gpu_tensor_float_frac", 7, _PERCENT),  # HMMA_TENSOR_UTIL
    Metric("gpu_tensor_int_frac", 9, _PERCENT),  # IMMA_TENSOR_UTIL
    Metric("gpu_fp32_frac", 12, _PERCENT),  # FP32_UTIL
    Metric("gpu_fp16_frac", 13, _PERCENT),  # FP16_UTIL
    Metric("gpu_int_frac", 4, _PERCENT),  # INTEGER_UTIL
    Metric("gpu_dram_frac", 10, _PERCENT),  # DRAM_BW_UTIL
    Metric("pcie_rx_bytes_per_s", 21, _MIB),  # PCIE_RX_PER_SEC
    Metric("pcie_tx_bytes_per_s", 20, _MIB),  # PCIE_TX_PER_SEC
    Metric("nvlink_rx_bytes_per_s", 60, _MIB),  # NVLINK_TOTAL_RX_PER_SEC
    Metric("nvlink_tx_bytes_per_s", 61, _MIB),  # NVLINK_TOTAL_TX_PER_SEC
)
COLUMNS = tuple(metric.column for metric in METRICS)
_NUMBERS = tuple(metric.number for metric in METRICS)


@dataclass(frozen=True)
class Activity:
    """Means of one GPU over the time between two samples.

    Attributes:
        start_ns: of the earlier sample, by `time.perf_counter_ns`.
        end_ns: of the later one.
        values: in the order of `METRICS` and the units of their columns; None where refused.
    """

    start_ns: int
    end_ns: int
    values: tuple[float | None, ...]


class ActivityCounters:
    """Reads what a GPU did since the last reading; for one thread.

    Args:
        nvml: the opened library.
        board: handle of the board.
        instance: number of the GPU instance for a MIG slice; None for the whole board.
    """

    def __init__(self, nvml: Nvml, board: Any, instance: int | None = None) -> None:
        self._nvml = nvml
        self._board = board
        self._instance = instance
        self._since_ns = 0
        self._samples: list[Any] = []
        support = nvml.ask("GpmQueryDeviceSupport", board)
        if getattr(support, "isSupportedDevice", 0):
            samples = [nvml.ask("GpmSampleAlloc") for _ in range(2)]
            self._samples = [sample for sample in samples if sample is not None]

    @property
    def available(self) -> bool:
        """Whether chip and driver have such counters."""
        return len(self._samples) == 2

    def read(self) -> Activity | None:
        """Return the means since the last reading; None for the first, too early, or if refused.

        After a reading without values the next one covers its time, too.
        """
        now_ns = time.perf_counter_ns()
        early = self._since_ns and now_ns - self._since_ns < MIN_INTERVAL_S * 1e9
        if not self.available or early or not self._take(self._samples[1]):
            return None
        activity = None
        if self._since_ns:
            older, newer = self._samples
            given = self._nvml.gpm_metrics(older, newer, _NUMBERS)
            if not given:
                return None
            values = tuple(
                None if (value := given.get(metric.number)) is None else value * metric.unit
                for metric in METRICS
            )
            activity = Activity(self._since_ns, now_ns, values)
        self._since_ns = now_ns
        self._samples.reverse()
        return activity

    def _take(self, sample: Any) -> bool:
        if self._instance is None:
            return self._nvml.do("GpmSampleGet", self._board, sample)
        return self._nvml.do("GpmMigSampleGet", self._board, self._instance, sample)

    def close(self) -> None:
        """Free the samples."""
        for sample in self._samples:
            self._nvml.ask("GpmSampleFree", sample)
        self._samples = []


def means(activities: Sequence[Activity], start_ns: int, end_ns: int) -> Mapping[str, float | None]:
    """Return the mean of every column over a window; None unless readings cover most of it.

    An interval that reaches over an edge of the window counts with the part inside it.

    Args:
        activities: oldest first.
        start_ns: start of the window by the clock of the activities.
        end_ns: its end.
    """
    inside = [
        (min(a.end_ns, end_ns) - max(a.start_ns, start_ns), a.values)
        for a in _touching(activities, start_ns, end_ns)
    ]
    least_ns = LEAST_COVERED * (end_ns - start_ns)
    columns: dict[str, float | None] = {}
    for place, column in enumerate(COLUMNS):
        known = [(length, v) for length, values in inside if (v := values[place]) is not None]
        covered = sum(length for length, _ in known)
        mean = sum(length * value for length, value in known) / covered if covered else None
        columns[column] = mean if covered >= least_ns else None
    return columns


def _touching(activities: Sequence[Activity], start_ns: int, end_ns: int) -> Sequence[Activity]:
    """Return those that reach into a window; a block has few of thousands."""
    first = bisect.bisect_right(activities, start_ns, key=lambda activity: activity.end_ns)
    last = bisect.bisect_left(activities, end_ns, key=lambda activity: activity.start_ns)
    return activities[first:last]
