"""Fit of the universal scalability law (USL) to throughput over the number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.intervals import CONFIDENCE
from raybench.stats.ratios import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from raybench.stats.intervals import Floats


@dataclass(frozen=True)
class UslFit:
    """Parameters of the law X(N) = gamma N / (1 + sigma (N-1) + kappa N (N-1)).

    Attributes:
        gamma: throughput of one worker.
        sigma: contention, >= 0.
        kappa: coherency, >= 0; with kappa 0 this is Amdahl's law.
    """

    gamma: float
    sigma: float
    kappa: float


@dataclass(frozen=True)
class UslIntervals:
    """Confidence intervals of a fit and of its predictions.

    Attributes:
        sigma: (lo, hi).
        kappa: (lo, hi).
        lo: lower end of the predicted throughput, shape (len(at),).
        hi: upper end, shape (len(at),).
    """

    sigma: tuple[float, float]
    kappa: tuple[float, float]
    lo: Floats
    hi: Floats


def usl(n: npt.ArrayLike, fit: UslFit) -> Floats:
    """Return the throughput that the law predicts for n workers, in the unit of gamma."""
    n = np.asarray(n, dtype=np.float64)
    return np.asarray(fit.gamma * n / (1 + fit.sigma * (n - 1) + fit.kappa * n * (n - 1)))


def usl_fit(n: npt.ArrayLike, throughput: npt.ArrayLike) -> UslFit:
    """Fit the universal scalability law (Gunther) to throughput.

    N / X(N) is linear in 1/gamma, sigma/gamma and kappa/gamma, which makes this a weighted (1/y)
    non-negative least squares problem. Trying the four sets of free coefficients solves it
    exactly, without an optimiser or a starting value.

    Args:
        n: numbers of workers, shape (k,), k >= 1.
        throughput: at each of them, shape (k,).
    """
    gamma, sigma, kappa = _fit_many(
        np.asarray(n, dtype=np.float64), np.asarray(throughput, dtype=np.float64)[None]
    )[0]
    return UslFit(float(gamma), float(sigma), float(kappa))


def _fit_many(n: Floats, throughput: Floats) -> Floats:
    """Return gamma, sigma and kappa, shape (b, 3), of b throughput curves, shape (b, k)."""
    y = n / throughput
    design = np.stack((np.ones_like(n), n - 1, n * (n - 1)), axis=1)
    scale = np.maximum(np.abs(design).max(axis=0), 1.0)
    weighted = (design / scale) / y[:, :, None]
    best: Floats = np.full(len(y), np.inf)
    coefficients = np.zeros((len(y), 3))
    for columns in ([0], [0, 1], [0, 2], [0, 1, 2]):
        part = weighted[:, :, columns]
        solved = (np.linalg.pinv(part) @ np.ones((len(y), len(n), 1)))[:, :, 0]
        rss = ((np.einsum("bkc,bc->bk", part, solved) - 1) ** 2).sum(axis=1)
        better = (solved >= 0).all(axis=1) & (rss < best)
        best = np.where(better, rss, best)
        full = np.zeros((len(y), 3))
        full[:, columns] = solved
        coefficients[better] = full[better]
    coefficients /= scale
    intercept = coefficients[:, 0]
    return np.stack(
        (1 / intercept, coefficients[:, 1] / intercept, coefficients[:, 2] / intercept), axis=1
    )


def usl_ci(
    n: npt.ArrayLike,
    trials: Sequence[npt.ArrayLike],
    at: npt.ArrayLike,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> UslIntervals:
    """Return intervals of sigma, kappa and the predicted throughput at `at` workers.

    Parametric bootstrap on log trial means: t around each, with one spread and its degrees of
    freedom pooled over all n.

    Args:
        n: numbers of workers, shape (k,).
        trials: throughput of each trial, k arrays of shape (r_i,), r_i >= 1, at least one r_i >= 2.
        at: numbers of workers to predict for, shape (m,).
        draws: of the bootstrap.
        seed: of the bootstrap.
        confidence: of the intervals.

    Raises:
        ValueError: when no number of workers has 2 trials.
    """
    n = np.asarray(n, dtype=np.float64)
    at = np.asarray(at, dtype=np.float64)
    parts = [logs(np.asarray(values, dtype=np.float64)) for values in trials]
    counts = np.array([part.count for part in parts])
    df = int(counts.sum()) - len(parts)
    if df < 1:
        raise ValueError("usl_ci needs 2 trials at one number of workers at least.")
    pooled = sum(part.variance * (part.count - 1) for part in parts) / df
    mu = np.array([part.mean for part in parts])
    se = np.sqrt(pooled / counts)
    z = mu + se * np.random.default_rng(seed).standard_t(df, (draws, len(parts)))
    gamma, sigma, kappa = _fit_many(n, np.exp(z)).T[:, :, None]
    predicted = gamma * at / (1 + sigma * (at - 1) + kappa * at * (at - 1))
    ends = np.quantile(
        np.concatenate((sigma, kappa, predicted), axis=1),
        [0.5 - confidence / 2, 0.5 + confidence / 2],
        axis=0,
    )
    return UslIntervals(
        sigma=(float(ends[0, 0]), float(ends[1, 0])),
        kappa=(float(ends[0, 1]), float(ends[1, 1])),
        lo=ends[0, 2:],
        hi=ends[1, 2:],
    )
