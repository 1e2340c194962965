"""Law: the universal scalability law of one curve, with its uncertainty and its reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.scaling_law import usl, usl_ci, usl_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SIZES = 4
"""Numbers of workers below which three coefficients say more about noise than about the machine."""
REACH = 2
"""How far beyond the largest number of workers measured the law is believed."""
_POINTS = 64
"""Most numbers of workers that a prediction is made for."""


@dataclass(frozen=True)
class Prediction:
    """Throughput that the law gives at a number of workers, with its 95 % interval."""

    workers: int
    items_per_s: float
    items_per_s_lo: float | None
    items_per_s_hi: float | None


@dataclass(frozen=True)
class Law:
    """The universal scalability law fitted to a curve (`stats.scaling_law.usl`), with 95 % intervals.

    Attributes:
        gamma: throughput of one worker in the fit, items/s.
        sigma: contention.
        kappa: coherency.
        peak_workers: where throughput would be largest; None when kappa's interval includes 0 or
            is not known.
        predictions: from 1 to twice the largest number of workers measured, no further; for a
            line with its band. Those beyond what was measured are extrapolation.
    """

    gamma: float
    sigma: float
    sigma_lo: float | None
    sigma_hi: float | None
    kappa: float
    kappa_lo: float | None
    kappa_hi: float | None
    peak_workers: float | None
    predictions: tuple[Prediction, ...]


def law(workers: Sequence[int], rates: Sequence[Sequence[float]]) -> Law | None:
    """The law of a curve, or None with too few sizes or rates that are not positive.

    Args:
        workers: different numbers of workers, shape (k,).
        rates: throughput of each trial at each of them, items/s.
    """
    if len(workers) < LEAST_SIZES or min(map(min, rates)) <= 0:
        return None
    fit = usl_fit(workers, [float(np.exp(np.mean(np.log(some)))) for some in rates])
    at = _grid(max(workers))
    line = usl(at, fit).tolist()
    if max(map(len, rates)) < 2:
        told = tuple(Prediction(n, x, None, None) for n, x in zip(at, line, strict=True))
        return Law(fit.gamma, fit.sigma, None, None, fit.kappa, None, None, None, told)
    ends = usl_ci(workers, [np.asarray(some) for some in rates], at)
    band = zip(at, line, ends.lo.tolist(), ends.hi.tolist(), strict=True)
    peaks = ends.kappa[0] > 0 and fit.kappa > 0 and fit.sigma < 1
    return Law(
        gamma=fit.gamma,
        sigma=fit.sigma,
        sigma_lo=ends.sigma[0],
        sigma_hi=ends.sigma[1],
        kappa=fit.kappa,
        kappa_lo=ends.kappa[0],
        kappa_hi=ends.kappa[1],
        peak_workers=math.sqrt((1 - fit.sigma) / fit.kappa) if peaks else None,
        predictions=tuple(Prediction(*point) for point in band),
    )


def _grid(largest: int) -> list[int]:
    """1 to REACH * largest, every one or evenly on a logarithmic scale."""
    end = REACH * largest
    if end <= _POINTS:
        return list(range(1, end + 1))
    return sorted({round(n) for n in np.geomspace(1, end, _POINTS)} | {largest})
