"""The universal scalability law of one curve, with its uncertainty and how far it reaches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.analysis.estimate import Estimate
from raybench.stats.scaling_law import usl, usl_ci, usl_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_SIZES = 4
"""Numbers of workers below which three coefficients describe noise rather than the machine."""
REACH = 2
"""The law is used up to this many times the largest number of workers measured."""
_POINTS = 64
"""Largest number of predictions."""


@dataclass(frozen=True)
class Prediction:
    """Throughput that the law predicts for a number of workers, with its 95 % interval."""

    workers: int
    items_per_s: Estimate


@dataclass(frozen=True)
class ScalingLaw:
    """The universal scalability law fitted to a curve, with 95 % intervals.

    Attributes:
        gamma: throughput of one worker in the fit, items/s.
        sigma: contention.
        kappa: coherency.
        peak_workers: where throughput would be largest; None if kappa's interval includes 0 or
            is unknown.
        predictions: from 1 to `REACH` times the largest number of workers measured; those beyond
            what was measured are extrapolation.
    """

    gamma: float
    sigma: Estimate
    kappa: Estimate
    peak_workers: float | None
    predictions: tuple[Prediction, ...]


def law(workers: Sequence[int], rates: Sequence[Sequence[float]]) -> ScalingLaw | None:
    """Fit the law to a curve; None with too few sizes or rates that are not positive.

    Args:
        workers: different numbers of workers, shape (k,).
        rates: throughput of each trial at each of them, items/s.
    """
    if len(workers) < LEAST_SIZES or min(map(min, rates)) <= 0:
        return None
    fit = usl_fit(workers, [float(np.exp(np.mean(np.log(trials)))) for trials in rates])
    at = _grid(max(workers))
    line = usl(at, fit).tolist()
    if max(map(len, rates)) < 2:
        predictions = tuple(Prediction(n, Estimate(x)) for n, x in zip(at, line, strict=True))
        return ScalingLaw(fit.gamma, Estimate(fit.sigma), Estimate(fit.kappa), None, predictions)
    ends = usl_ci(workers, [np.asarray(trials) for trials in rates], at)
    band = zip(at, line, ends.lo.tolist(), ends.hi.tolist(), strict=True)
    peaks = ends.kappa[0] > 0 and fit.kappa > 0 and fit.sigma < 1
    return ScalingLaw(
        gamma=fit.gamma,
        sigma=Estimate(fit.sigma, *ends.sigma),
        kappa=Estimate(fit.kappa, *ends.kappa),
        peak_workers=math.sqrt((1 - fit.sigma) / fit.kappa) if peaks else None,
        predictions=tuple(Prediction(n, Estimate(x, lo, hi)) for n, x, lo, hi in band),
    )


def _grid(largest: int) -> list[int]:
    """Return 1 to REACH * largest: each number, or evenly spaced on a logarithmic scale."""
    end = REACH * largest
    if end <= _POINTS:
        return list(range(1, end + 1))
    return sorted({round(n) for n in np.geomspace(1, end, _POINTS)} | {largest})
