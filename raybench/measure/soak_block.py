"""A block of a soak: what is kept of its batches in place of their stamps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from raybench.machine import gpu_telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.measure.stalls import Stall
    from raybench.measure.telemetry_columns import Readings
    from raybench.stats.sketch import QuantileSketch

TIMES = ("latency", "enqueue", "h2d", "compute", "d2h")
"""What is known of the time of each batch, in ms; the last three by the device's clock, where it has
one."""
THROTTLES = {
    "throttled_power": gpu_telemetry.POWER_CAP,
    "throttled_thermal": gpu_telemetry.THERMAL,
    "throttled_hw": gpu_telemetry.HARDWARE,
}


class SoakEvent(NamedTuple):
    """Something that happened to a device or its host.

    Attributes:
        t_ns: when it was seen, since the common start.
        kind: of `KINDS`.
        value: XID code, number of errors or rows, share of the block's samples, or seconds.
    """

    t_ns: int
    kind: str
    value: float


KINDS = {
    "xid": "The driver reported error {:g} of the device (XID).",
    "ecc_uncorrected": "{:g} memory errors were not corrected.",
    "ecc_corrected": "{:g} memory errors were corrected.",
    "rows_remapped": "{:g} rows of device memory were replaced.",
    "throttled_power": "The power cap began to act, in a share of {:.3g} of the block's samples.",
    "throttled_thermal": "Heat began to slow the device, in a share of {:.3g} of the block's samples.",
    "throttled_hw": "The hardware began to slow the device, in a share of {:.3g} of the block's samples.",
    "core_heat": "Heat slowed the worker's CPUs {:g} times in the block.",
    "stall": "No batch was completed for {:.3g} s, the longest such time of the block.",
    "ended": "The stream ended before its time.",
}
"""The kinds of events, and a sentence with the value of each."""


@dataclass(frozen=True)
class SoakBlock:
    """One block of one worker's stream; times in ns since the common start.

    Attributes:
        cell: of the grid, that it begins in.
        begin_ns: completion that it begins with.
        end_ns: completion that it ends with.
        batches: completed in it.
        times: sketch of each time of a batch that is known, in ms, by `TIMES`.
        stalls: that ended in it.
        hardware: columns of device and host, as in `workers`.
        events: seen in it.
        readings: without samples but the host's last, to name the place.
    """

    cell: int
    begin_ns: int
    end_ns: int
    batches: int
    times: dict[str, QuantileSketch]
    stalls: tuple[Stall, ...] = ()
    hardware: dict[str, Any] = field(default_factory=dict)
    events: tuple[SoakEvent, ...] = ()
    readings: Readings | None = None

    @property
    def seconds(self) -> float:
        """Length of the block."""
        return (self.end_ns - self.begin_ns) / 1e9


def events_of(
    readings: Readings, stalls: Sequence[Stall], begin_ns: int, start_ns: int
) -> tuple[SoakEvent, ...]:
    """Return the events of a block in order of time.

    Args:
        readings: up to its end, with the last that had the GPU's health before it.
        stalls: that ended in it, since the common start.
        begin_ns: its beginning, by the clock of the readings.
        start_ns: the common start, by that clock.
    """
    found = [*_health_events(readings), *_throttle_events(readings, begin_ns)]
    events = [SoakEvent(t_ns - start_ns, kind, value) for t_ns, kind, value in found]
    if stalls:
        longest = max(stalls, key=lambda stall: stall.length_ns)
        events.append(SoakEvent(longest.start_ns, "stall", longest.length_ns / 1e9))
    return tuple(sorted(events))


def _health_events(readings: Readings) -> Iterator[tuple[int, str, float]]:
    """Yield what the counters of the GPU's health rose by, when it was read."""
    known = [(sample.t_ns, sample.health) for sample in readings.gpu if sample.health is not None]
    for _, health in known[:1]:
        for code in health.xids or ():
            yield known[0][0], "xid", float(code)
    for (_, before), (t_ns, after) in itertools.pairwise(known):
        for code in after.xids or ():
            yield t_ns, "xid", float(code)
        for kind, name in (
            ("ecc_uncorrected", "uncorrected"),
            ("ecc_corrected", "corrected"),
            ("rows_remapped", "remapped_rows"),
        ):
            old, new = getattr(before, name), getattr(after, name)
            if old is not None and new is not None and new > old:
                yield t_ns, kind, float(new - old)


def _throttle_events(readings: Readings, begin_ns: int) -> Iterator[tuple[int, str, float]]:
    """Yield the first time in the block at which each reason to slow down came up."""
    gpu = [sample for sample in readings.gpu if sample.reasons is not None]
    inside = [sample for sample in gpu if sample.t_ns >= begin_ns]
    before = [sample for sample in gpu if sample.t_ns < begin_ns][-1:]
    for kind, mask in THROTTLES.items():
        acted = [bool((sample.reasons or 0) & mask) for sample in (*before, *inside)]
        share = sum(acted[len(before) :]) / len(inside) if inside else 0.0
        for place, sample in enumerate((*before, *inside)):
            if acted[place] and not (place and acted[place - 1]) and sample.t_ns >= begin_ns:
                yield sample.t_ns, kind, share
                break
    counts = [(s.t_ns, s.throttles) for s in readings.host if s.throttles is not None]
    if len(counts) > 1 and counts[-1][1] > counts[0][1]:
        t_ns = next(t for t, count in counts if count > counts[0][1])
        yield t_ns, "core_heat", float(counts[-1][1] - counts[0][1])
