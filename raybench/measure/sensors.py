"""The telemetry beside one worker's stream: its GPU and its host."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import replace
from typing import TYPE_CHECKING

from raybench.machine import mps
from raybench.measure.telemetry_columns import Readings

if TYPE_CHECKING:
    from raybench.machine.gpu_telemetry import GpuTelemetry
    from raybench.machine.host import HostTelemetry

EDGE_EVERY_S = 10.0
"""In a soak: time between two readings of what is read at the ends of another stream only. An event of
the driver is known to within it."""


class Sensors:
    """Samples the device and the host of this process while a stream runs.

    Args:
        kind: of the worker's device: "gpu" or "cpu".
        gpu: telemetry of its GPU.
        host: telemetry of its host.
    """

    def __init__(self, kind: str, gpu: GpuTelemetry, host: HostTelemetry) -> None:
        self.gpu = gpu
        self._kind = kind
        self._host = host

    def start(self, is_soak: bool = False) -> None:
        """Start sampling, in a thread for each."""
        self.gpu.start(EDGE_EVERY_S if is_soak else math.inf)
        self._host.start()

    def end(self) -> Readings:
        """Take the last samples, end the threads and return all readings."""
        self.gpu.end()
        self._host.end()
        return self.readings()

    def readings(self) -> Readings:
        """Return what has been read so far."""
        return Readings(
            self._kind,
            platform.node(),
            os.getpid(),
            self.gpu.samples,
            self._host.samples,
            tuple(each.failure for each in (self.gpu, self._host) if each.failure),
            tuple(sorted(os.sched_getaffinity(0))),
            mps.servers() if self._kind == "gpu" else frozenset(),
        )

    def cover(self, t_ns: int) -> bool:
        """Return whether every sensor that samples has a sample at an instant or after it."""
        newest = [each.samples[-1].t_ns for each in (self.gpu, self._host) if each.samples]
        return all(newest_ns >= t_ns for newest_ns in newest)

    def forget(self, before_ns: int) -> None:
        """Drop the samples that no window from an instant on needs.

        Kept are the last sample up to it, and of the GPU the last with its health, so that what
        rises after it is known; errors of the driver that it reported are counted already.
        """
        gpu = self.gpu.samples
        ended = [place for place, sample in enumerate(gpu) if sample.t_ns < before_ns]
        edges = [place for place in ended if gpu[place].health is not None]
        if edges:
            first = gpu[edges[-1]]
            assert first.health is not None
            counted = None if first.health.xids is None else ()
            kept = replace(first, health=replace(first.health, xids=counted))
            self.gpu.forget(edges[-1] + 1, kept)
        elif ended:
            self.gpu.forget(ended[-1] + 1, gpu[ended[-1]])
        host = [sample for sample in self._host.samples if sample.t_ns < before_ns]
        if host:
            self._host.forget(len(host), host[-1])


def up_to(readings: Readings, end_ns: int) -> Readings:
    """Return the readings up to the first sample at or after an instant.

    The health in that sample belongs to what follows.
    """
    gpu = [sample for sample in readings.gpu if sample.t_ns < end_ns]
    after = readings.gpu[len(gpu) : len(gpu) + 1]
    host = sum(sample.t_ns < end_ns for sample in readings.host) + 1
    return replace(
        readings,
        gpu=(*gpu, *(replace(sample, health=None) for sample in after)),
        host=readings.host[:host],
    )
