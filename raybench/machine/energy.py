"""Energy over a window from a counter or from sampled power, and how far off it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from raybench.machine import telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Readings = list[tuple[int, float]]
"""Time in ns and value, oldest first."""

GPU_STEP_S = 0.12
"""How late or early NVML's energy counter may be: on an H200 it moves every 97 to 103 ms, and a reading
takes 2 to 17 ms."""
RAPL_STEP_S = 0.001
"""The energy counter of a processor package is renewed about once a millisecond."""
POWER_DELAY_S = 1.0
"""A power reading may be a mean over the second before it."""
SAMPLING_ERROR = 0.05
"""Share by which the integral of sampled power may be off: boards sample part of the time."""
MAX_ERROR = 0.5
"""A value of which more than this share is uncertain is not given; its bounds are."""


class Energy(NamedTuple):
    """Energy of a window with bounds that hold whatever the phase of the counter.

    Attributes:
        joules: the best single value.
        error_j: half the width of the interval around it.
    """

    joules: float
    error_j: float

    @property
    def known(self) -> bool:
        """Whether the value says more than its uncertainty hides."""
        return self.moved and self.error_j <= MAX_ERROR * self.joules

    @property
    def moved(self) -> bool:
        """Whether the meter said anything: a counter that never rose is broken, not at rest."""
        return self.joules > 0

    def columns(self, name: str, divisor: float = 1.0) -> dict[str, float | None]:
        """Return the columns NAME, NAME_lo and NAME_hi, all divided.

        The value is None if it is not known, the bounds only if the meter said nothing.
        """
        lo, hi = max(self.joules - self.error_j, 0.0), self.joules + self.error_j
        return {
            name: self.joules / divisor if self.known else None,
            f"{name}_lo": lo / divisor if self.moved else None,
            f"{name}_hi": hi / divisor if self.moved else None,
        }


def from_counter(
    counter: Readings, start_ns: int, end_ns: int, step_s: float, watts: Sequence[float] = ()
) -> Energy | None:
    """Return the rise of a counter over a window; None if its readings do not span it.

    A reading lags behind by up to a step at either edge, so the rise is off by at most one step at
    the highest power. Between two readings the power may change: a line through them is off by at
    most a quarter of their distance times the range of the power, at each edge.

    Args:
        counter: in joules, from any origin.
        start_ns: start of the window, by the clock of the readings.
        end_ns: end of the window.
        step_s: time between two movements of the counter.
        watts: power read within the window; empty takes the slopes of the counter instead.
    """
    if end_ns <= start_ns or not telemetry.cover(counter, start_ns, end_ns):
        return None
    times, values = (np.array(column, np.float64) for column in zip(*counter, strict=True))
    first, last = np.interp([start_ns, end_ns], times, values)
    joules = float(last - first)
    mean_w = joules / ((end_ns - start_ns) / 1e9)
    inside = _touching(times, start_ns, end_ns)
    seconds = np.diff(times[inside]) / 1e9
    slopes = np.diff(values[inside])[seconds > 0] / seconds[seconds > 0]
    powers = [mean_w, *(watts or slopes.tolist())]
    highest, lowest = max(powers), min(powers)
    edges_s = _edge_gap_s(times, start_ns) + _edge_gap_s(times, end_ns)
    return Energy(joules, step_s * highest + edges_s / 4 * (highest - lowest))


def from_power(power: Readings, start_ns: int, end_ns: int) -> Energy | None:
    """Return the integral of sampled power; None if its readings do not span the window.

    A reading may be a mean over the second before it, which moves the curve by up to a second:
    that changes the integral by at most a second times the range of the power.
    """
    if end_ns <= start_ns or not telemetry.cover(power, start_ns, end_ns):
        return None
    stamps, watts = (np.array(column, np.float64) for column in zip(*power, strict=True))
    inner = stamps[(stamps > start_ns) & (stamps < end_ns)]
    times = np.concatenate([[start_ns], inner, [end_ns]])
    curve = np.interp(times, stamps, watts)
    joules = float(np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(times)) / 1e9)
    spread = float(np.ptp(watts[_touching(stamps, start_ns, end_ns)]))
    return Energy(joules, SAMPLING_ERROR * joules + POWER_DELAY_S * spread)


def _touching(times: NDArray[np.float64], start_ns: int, end_ns: int) -> slice:
    """Return the readings of a window with the one before and the one after it."""
    before = int(np.searchsorted(times, start_ns, "right")) - 1
    after = int(np.searchsorted(times, end_ns, "left"))
    return slice(max(before, 0), after + 1)


def _edge_gap_s(times: NDArray[np.float64], at_ns: int) -> float:
    """Return the time between the readings around an instant; 0 where a reading is exactly there."""
    before = int(np.searchsorted(times, at_ns, "right")) - 1
    after = int(np.searchsorted(times, at_ns, "left"))
    return float(times[min(after, len(times) - 1)] - times[max(before, 0)]) / 1e9
