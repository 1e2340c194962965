"""Confidence intervals, quantiles and outlier counts for a series of measurements.

A series holds one value per block: its rate in items/s, over about one second of stream, in time
order. Whatever claims to be reproducible uses the mean of a trial as its sample instead (see
`raybench.stats.ratios`). Intervals are two-sided with 95 % confidence unless the caller chooses
otherwise. Docstrings name the source of each formula; "simulated" refers to
`benchmarks/coverage.py`.

scipy is imported inside the functions that need a quantile or a tail probability: the import takes
most of a second, which a worker must not pay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NBM_BATCHES = 10
"""Batches of the batch-means interval, and the fewest blocks that give an interval at all."""
PERCENTILE_BATCHES = 20
"""Stretches into which latencies are cut for the interval of a percentile."""
LEAST_EXCURSIONS = 20
"""Excursions above a percentile of queueing latencies below which nothing bounds it from above."""
ROUNDING = 1e-12
"""A spread below this share of the largest value is rounding, not noise."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, in the unit of the data.

    Attributes:
        mean: of the series.
        half_width: of the symmetric interval; infinite when there are too few values for one.
        n_eff: number of independent values that carry as much information as the series.
    """

    mean: float
    half_width: float
    n_eff: float

    @property
    def lo(self) -> float:
        """Lower end, by `bounds`."""
        return float(bounds(self.mean, self.half_width)[0])

    @property
    def hi(self) -> float:
        """Upper end, by `bounds`."""
        return float(bounds(self.mean, self.half_width)[1])

    @property
    def relative(self) -> float:
        """Half-width over mean; infinite when the mean is not positive."""
        return self.half_width / self.mean if self.mean > 0 else math.inf


@dataclass(frozen=True)
class Span:
    """A value and its asymmetric confidence interval; an end without an estimate is None."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Outliers:
    """Counts of values far from the rest. Outliers are reported, never removed.

    Attributes:
        tukey: values more than 3 interquartile ranges beyond the nearer quartile.
        mad: values more than 10 scaled median absolute deviations from the median.
        either: values that meet at least one of the two criteria.
    """

    tukey: int
    mad: int
    either: int


def bounds(mean: npt.ArrayLike, half_width: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the ends of intervals of positive quantities: mean / f and mean x f, f = exp(h / mean).

    This is the symmetric interval of the logarithm (delta method). While it is narrow it is the
    symmetric interval of the mean: the ends differ by 0.001 % of the mean at +-0.5 %. A wide one
    does not reach below zero.

    Args:
        mean: any shape; ends of a mean that is not positive are symmetric.
        half_width: of the symmetric interval, same shape.
    """
    mean, half_width = np.asarray(mean, np.float64), np.asarray(half_width, np.float64)
    positive = mean > 0
    with np.errstate(over="ignore", invalid="ignore"):
        factor = np.exp(half_width / np.where(positive, mean, 1.0))
        lo = np.where(positive, mean / factor, mean - half_width)
        hi = np.where(positive, mean * factor, mean + half_width)
    return lo, hi


# --- quantiles ------------------------------------------------------------------------------------


def t_quantile(p: float, df: float) -> float:
    """Return the p-quantile of Student's t.

    `df` may be fractional or infinite. It is rounded to one decimal so that the cache hits.
    """
    return exact_t_quantile(p, round(float(df), 1))


@lru_cache(maxsize=4096)
def exact_t_quantile(p: float, df: float) -> float:
    """Return the p-quantile of Student's t without rounding `df`."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(p) if math.isinf(df) else stdtrit(df, p))


@lru_cache(maxsize=1024)
def min_queries(p: float, over: int = 1, confidence: float = 0.99) -> int:
    """Return the fewest values that support a p-quantile when `over` of them may exceed it.

    This is the least n with P(Binomial(n, 1 - p) <= over) <= 1 - confidence: MLPerf LoadGen's
    early stopping with tolerance 0 (`loadgen/early_stopping.cc`).
    """
    from scipy.special import bdtr

    def enough(n: int) -> bool:
        return bool(bdtr(over, n, 1 - p) <= 1 - confidence)

    hi = over + 1
    while not enough(hi):
        hi *= 2
    lo = over
    while hi - lo > 1:
        mid = (lo + hi) // 2
        lo, hi = (lo, mid) if enough(mid) else (mid, hi)
    return hi


def percentile_least(p: float) -> int:
    """Return the fewest latencies for which the p-quantile is reported at all.

    These are 20, 64, 662 and 6636 for p50, p90, p99 and p99.9. One late batch may be discarded
    (`over` = 1); 20 is raybench's own minimum for the median.
    """
    return max(20, min_queries(p, 1))


# --- the mean of one series -----------------------------------------------------------------------


def rho(x: Floats) -> float:
    """Return the lag-1 autocorrelation of a series, between 0 and 0.98.

    Kendall's correction adds back the (1 + 4 r) / n that estimating the mean removes. Negative
    values become 0, since they would only narrow the interval.

    Args:
        x: shape (n,), n >= 2, in time order.
    """
    n = len(x)
    d = x - x.mean()
    v = float(d @ d)
    noise = v > n * (ROUNDING * float(np.abs(x).max())) ** 2
    r = float(d[1:] @ d[:-1]) / v if noise else 0.0
    return min(max(r + (1 + 4 * r) / n, 0.0), 0.98)


def se_ar1(x: Floats) -> tuple[float, float]:
    """Return the standard error of the mean of an AR(1) process, and n_eff.

    n_eff = n (1 - rho) / (1 + rho), at least 2. Because `rho` is never negative, the standard
    error is never below that of independent values.

    Args:
        x: shape (n,), n >= 2, in time order.
    """
    r = rho(x)
    n_eff = max(len(x) * (1 - r) / (1 + r), 2.0)
    return float(x.std(ddof=1)) / math.sqrt(n_eff), n_eff


def se_nbm(x: Floats, batches: int = NBM_BATCHES) -> float:
    """Return the standard error of the mean from non-overlapping batch means.

    It uses the newest `batches` * m values, and captures correlation over longer lags than AR(1)
    can describe. Infinite if n < batches.

    Args:
        x: shape (n,), in time order.
        batches: number of batches.
    """
    m = len(x) // batches
    if m < 1:
        return math.inf
    means = x[len(x) - m * batches :].reshape(batches, m).mean(axis=1)
    return float(means.std(ddof=1)) / math.sqrt(batches)


def hw_nbm(x: Floats, batches: int = NBM_BATCHES, confidence: float = CONFIDENCE) -> float:
    """Return the half-width from non-overlapping batch means; infinite if n < batches.

    The t quantile has batches - 1 degrees of freedom.

    Args:
        x: shape (n,), in time order.
        batches: number of batches.
        confidence: of the interval.
    """
    return t_quantile(0.5 + confidence / 2, batches - 1) * se_nbm(x, batches)


def mean_ci(x: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of a series and its confidence interval.

    The half-width is the larger of the AR(1) and the 10-batch-means standard error, times one t
    quantile: AR(1) suits short series, batch means suit long memory. With fewer than 10 values it
    is infinite.

    Degrees of freedom are n / (3 V - 2) with V = n / n_eff. The estimate of log V has variance
    4 V / n for an AR(1) process (delta method), which the usual n_eff - 1 leaves out. It counts
    only the excess of V over 1, since `rho` never claims less than independence.

    Simulated at n = 40 / 60 / 120, nominal 95 %: 96.0 / 96.2 / 96.9 % at phi 0, 94.4 / 95.1 /
    96.0 % at 0.3, 94.7 / 95.6 / 96.1 % at 0.6. The wider of two separate intervals with n_eff - 1
    and 9 degrees of freedom gave 96.5 / 97.1 / 97.6, 94.1 / 95.3 / 96.6 and 92.6 / 94.1 / 95.8 %.

    Args:
        x: shape (n,), n >= 1, in time order.
        confidence: of the interval.
    """
    n = len(x)
    if n < 2:
        return Interval(float(np.mean(x)), math.inf, 1.0)
    se, n_eff = se_ar1(x)
    t = t_quantile(0.5 + confidence / 2, half_width_df(n, n_eff))
    return Interval(float(x.mean()), t * max(se, se_nbm(x)), n_eff)


def half_width_df(n: float, n_eff: float) -> float:
    """Return the degrees of freedom that `mean_ci` uses for n values worth n_eff."""
    return max(n / (3 * n / n_eff - 2), 1.0)


# --- latencies and outliers -----------------------------------------------------------------------


def percentile_ci(
    latencies: Floats,
    p: float,
    batches: int = PERCENTILE_BATCHES,
    confidence: float = CONFIDENCE,
) -> Span | None:
    """Return the p-quantile of latencies and its interval.

    The share of values above the quantile in each of `batches` stretches gives a t interval of the
    quantile's rank (indicator batch means), which is never narrower than the binomial interval of
    independent values.

    Simulated, p50 to p99.9, lognormal latencies, phi 0 to 0.8, with and without stalls: 93.8 to
    97.1 %. With 10 stretches, and their t quantile on the binomial error too, 94.6 to 99.1 %:
    intervals of independent latencies were a sixth too wide.

    Args:
        latencies: shape (n,), in time order.
        p: between 0 and 1.
        batches: stretches of the series.
        confidence: of the interval.

    Returns:
        None for fewer than `percentile_least(p)` values. `hi` is None when the upper rank exceeds
        the data.
    """
    n = len(latencies)
    if n < percentile_least(p):
        return None
    value = float(np.quantile(latencies, p))
    over = (latencies > value).astype(np.float64)
    independent = t_quantile(0.5 + confidence / 2, math.inf) * math.sqrt(p * (1 - p) / n)
    h = max(hw_nbm(over, batches, confidence), independent)
    lo, hi = np.quantile(latencies, [max(p - h, 0.0), min(p + h, 1.0)])
    return Span(value, float(lo), float(hi) if p + h < 1 else None)


def queue_percentile_ci(latencies: Floats, p: float) -> Span | None:
    """Return the p-quantile of latencies that include a wait in a queue, and its interval.

    Near saturation the latencies above a quantile come in few long excursions, of which a window may
    have had none by chance. With fewer than `LEAST_EXCURSIONS` the interval has no upper end: of M/M/1
    at 95 % load over 300,000 items it would hold the truth in 86 % of runs, not 95 (simulated,
    `benchmarks/open_loop.py`).

    Args:
        latencies: shape (n,), in order of arrival.
        p: between 0 and 1.
    """
    span = percentile_ci(latencies, p)
    if span is None or excursions(latencies, span.value) >= LEAST_EXCURSIONS:
        return span
    return replace(span, hi=None)


def excursions(latencies: Floats, above: float) -> int:
    """Return how often latencies rose from below their median to above a value."""
    sides = (latencies > above).astype(np.int8) - (latencies < np.median(latencies))
    sides = sides[sides != 0]
    return int((np.diff(sides, prepend=-1) == 2).sum())


def outliers(x: Floats) -> Outliers:
    """Count the values far from the rest; a series of fewer than 4 values has none.

    The criteria are Tukey's outer fence (1977) and hyperfine's modified z-score above 10.

    Args:
        x: shape (n,).
    """
    if len(x) < 4:
        return Outliers(0, 0, 0)
    q1, median, q3 = (float(q) for q in np.quantile(x, [0.25, 0.5, 0.75]))
    slack = 1e-9 * max(abs(q1), abs(q3))
    reach = 3 * (q3 - q1) + slack
    tukey = (x < q1 - reach) | (x > q3 + reach)
    distance = np.abs(x - median)
    mad = distance > 10 * 1.4826 * float(np.median(distance)) + slack
    return Outliers(int(tukey.sum()), int(mad.sum()), int((tukey | mad).sum()))
