"""Detectors of level shifts and linear drift in a series of block rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.intervals import ROUNDING, rho, t_quantile

if TYPE_CHECKING:
    from raybench.stats.intervals import Floats


@dataclass(frozen=True)
class LevelShift:
    """A shift of the mean between the values before `index` and those from `index` on.

    Attributes:
        index: first value after the shift.
        relative: later mean minus earlier mean, over the mean of all values.
        z: size of the shift over its standard error, never negative.
    """

    index: int
    relative: float
    z: float


@dataclass(frozen=True)
class Drift:
    """The linear trend of a series.

    Attributes:
        relative: change from end to end over the mean of all values.
        z: size of the slope over its standard error, never negative.
        half_width: half of the 95 % interval of `relative`; infinite without one.
    """

    relative: float
    z: float
    half_width: float = math.inf


def largest_shift(x: Floats, least: int = 5) -> LevelShift:
    """Return the single shift of the mean that fits a series best.

    Least squares over all splits that leave `least` values on either side (n // 5, at least 3, in
    a series shorter than 4 * least). The standard error carries the AR(1) factor of the residuals
    about the two means. A series too short for a split has no shift.

    `least` does not grow with n. If it did, a shift seen early in a window would leave the range
    of the search as the window grows, and be forgotten (simulated: a 2 % shift went unnoticed in
    2.6 % of runs at phi 0.6, block sd 0.5 %, with a tenth of n; in 0.2 % this way).

    Args:
        x: shape (n,), in time order.
        least: fewest values on either side.
    """
    n = len(x)
    lo = least if n >= 4 * least else max(3, n // 5)
    if n < 2 * lo + 1:
        return LevelShift(0, 0.0, 0.0)
    splits = np.arange(lo, n - lo + 1)
    mean = float(x.mean())
    sums = np.cumsum(x - mean)
    shift = (sums[-1] - sums[splits - 1]) / (n - splits) - sums[splits - 1] / splits
    best = int(np.argmax(np.abs(shift) * np.sqrt(splits * (n - splits) / n)))
    return shift_at(x, int(splits[best]))


def shift_at(x: Floats, index: int) -> LevelShift:
    """Return the shift of the mean at a given split.

    Args:
        x: shape (n,), n >= 3, in time order.
        index: first value after the split, 0 < index < n.
    """
    n = len(x)
    before, after = float(x[:index].mean()), float(x[index:].mean())
    residual = np.concatenate((x[:index] - before, x[index:] - after))
    r = rho(residual)
    spread = math.sqrt(float(residual @ residual) / (n - 2))
    se = spread * math.sqrt((1 + r) / (1 - r) * (1 / index + 1 / (n - index)))
    return LevelShift(index, _relative(after - before, x), _z(after - before, se, x))


def shift_of_halves(x: Floats) -> LevelShift:
    """Return the shift between the halves of a series that may still be curving.

    Like `shift_at`, but the noise is measured about a parabola. A smooth approach to a steady rate
    then does not count as noise, as it would about two means or a line.

    Args:
        x: shape (2 m,), m >= 2, in time order.
    """
    n = len(x)
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, n), 3))
    residual = x - basis @ (basis.T @ x)
    r = rho(residual)
    se = math.sqrt(float(residual @ residual) / (n - 3) * (1 + r) / (1 - r) * 4 / n)
    change = float(x[n // 2 :].mean() - x[: n // 2].mean())
    return LevelShift(n // 2, _relative(change, x), _z(change, se, x))


def drift(x: Floats) -> Drift:
    """Return the linear trend of a series; a series of fewer than 3 values has none.

    Ordinary least squares; the standard error carries the AR(1) factor of the residuals.

    Args:
        x: shape (n,), in time order.
    """
    n = len(x)
    if n < 3:
        return Drift(0.0, 0.0)
    t = np.arange(n) - (n - 1) / 2
    stt = float(t @ t)
    slope = float(t @ x) / stt
    residual = x - x.mean() - slope * t
    r = rho(residual)
    se = math.sqrt(float(residual @ residual) / (n - 2) / stt * (1 + r) / (1 - r))
    independent = n * (1 - r) / (1 + r)
    half_width = t_quantile(0.975, max(independent - 2, 1.0)) * _relative(se * n, x)
    return Drift(_relative(slope * n, x), _z(slope * n, se * n, x), half_width)


def _relative(change: float, x: Floats) -> float:
    mean = float(x.mean())
    return change / mean if mean else 0.0


def _z(change: float, se: float, x: Floats) -> float:
    """Return |change| over its standard error, ignoring rounding in a constant series."""
    floor = ROUNDING * float(np.abs(x).max())
    return abs(change) / max(se, floor) if abs(change) > floor else 0.0
