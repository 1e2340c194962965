"""Intervals, quantiles, ratios and tests: plain functions over arrays of measurements.

The unit of analysis is a block's rate (items/s, about one second of stream), in time order; the
sample of everything that claims to be reproducible is the mean of a trial. Confidence is two-sided
and 0.95 unless told otherwise. Sources are named where a formula stands; "simulated" refers to
`benchmarks/coverage.py`.

scipy is imported inside the functions that need a quantile or a tail: it costs most of a second
and must not be paid by a worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NBM_BATCHES = 10
"""Batches of the batch-means interval; also the fewest blocks that give an interval at all."""
PERCENTILE_BATCHES = 20
"""Stretches into which latencies are cut for the interval of a percentile."""
_ROUNDING = 1e-12
"""Spread below this share of the largest value is rounding, not noise."""


@dataclass(frozen=True)
class Interval:
    """A mean and its symmetric confidence interval, in the unit of the data.

    Attributes:
        half_width: infinite when there are too few values to tell.
        n_eff: how many independent values the series is worth.
    """

    mean: float
    half_width: float
    n_eff: float

    @property
    def lo(self) -> float:
        """Lower end."""
        return self.mean - self.half_width

    @property
    def hi(self) -> float:
        """Upper end."""
        return self.mean + self.half_width

    @property
    def relative(self) -> float:
        """Half-width over mean; infinite when the mean is not positive."""
        return self.half_width / self.mean if self.mean > 0 else math.inf


@dataclass(frozen=True)
class Span:
    """A value and its asymmetric confidence interval; an end that cannot be known is None."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Step:
    """The best single shift of the mean: values before `index` against those from it on.

    Attributes:
        relative: later mean minus earlier mean, over the mean of all.
        z: size of the shift over its standard error, never negative.
    """

    index: int
    relative: float
    z: float


@dataclass(frozen=True)
class Drift:
    """A straight line through the series.

    Attributes:
        relative: change from end to end over the mean of all.
        z: size of the slope over its standard error, never negative.
    """

    relative: float
    z: float


@dataclass(frozen=True)
class Scaling:
    """The universal scalability law, X(N) = gamma N / (1 + sigma (N-1) + kappa N (N-1)).

    Attributes:
        gamma: throughput of one worker.
        sigma: contention, >= 0.
        kappa: coherency, >= 0; with kappa 0 this is Amdahl's law.
    """

    gamma: float
    sigma: float
    kappa: float


@dataclass(frozen=True)
class ScalingInterval:
    """Confidence intervals of a scaling fit.

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


@dataclass(frozen=True)
class Logs:
    """Logarithms of the trial means of one point.

    Attributes:
        variance: with count - 1 in the denominator; 0 for a single trial.
        count: trials.
    """

    mean: float
    variance: float
    count: int


@dataclass(frozen=True)
class TrialInterval:
    """What several trials say together.

    Attributes:
        mean: of the trial means.
        half_width: t interval with trials - 1 degrees of freedom; None for a single trial.
        trials: how many.
        sd: standard deviation between the trial means as they stand; None for a single trial.
        within_sd: the part that one trial's own noise explains (within-trial precision).
        between_sd: what is left (between-trial reproducibility), >= 0; None for a single trial.
        trials_needed: trials that would reach the target at this sd; None for a single trial.
    """

    mean: float
    half_width: float | None
    trials: int
    sd: float | None
    within_sd: float | None
    between_sd: float | None
    trials_needed: int | None

    @property
    def lo(self) -> float | None:
        """Lower end, or None for a single trial."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def hi(self) -> float | None:
        """Upper end, or None for a single trial."""
        return None if self.half_width is None else self.mean + self.half_width


@dataclass(frozen=True)
class Outliers:
    """Values far from the rest: counted and told, never removed.

    Attributes:
        tukey: beyond 3 interquartile ranges from the nearer quartile.
        mad: more than 10 scaled median absolute deviations from the median.
        either: beyond one of the two fences.
    """

    tukey: int
    mad: int
    either: int


# --- quantiles ------------------------------------------------------------------------------------


def t_quantile(p: float, df: float) -> float:
    """The p-quantile of Student's t.

    `df` may be fractional, rounded to one decimal so that the cache hits, or infinite.
    """
    return _t_quantile(p, round(float(df), 1))


@lru_cache(maxsize=4096)
def _t_quantile(p: float, df: float) -> float:
    from scipy.special import ndtri, stdtrit

    return float(ndtri(p) if math.isinf(df) else stdtrit(df, p))


@lru_cache(maxsize=1024)
def min_queries(p: float, over: int = 1, confidence: float = 0.99) -> int:
    """Fewest values from which the p-quantile may be told when `over` of them may lie beyond it.

    The least n with P(Binomial(n, 1 - p) <= over) <= 1 - confidence: MLPerf LoadGen's early
    stopping with tolerance 0 (`loadgen/early_stopping.cc`).
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
    """Fewest latencies for which the p-quantile is told at all: 20, 64, 662, 6636 at p50 ... p99.9.

    One late batch may be discarded (`over` = 1); 20 is raybench's own floor for the median.
    """
    return max(20, min_queries(p, 1))


# --- the mean of one series -----------------------------------------------------------------------


def rho(x: Floats) -> float:
    """Lag-1 autocorrelation of a series, shape (n,), n >= 2; between 0 and 0.98.

    Kendall's correction adds the (1 + 4 r) / n that estimating the mean takes away. Negative
    values become 0: they would only make the interval narrower.
    """
    n = len(x)
    d = x - x.mean()
    v = float(d @ d)
    noise = v > n * (_ROUNDING * float(np.abs(x).max())) ** 2
    r = float(d[1:] @ d[:-1]) / v if noise else 0.0
    return min(max(r + (1 + 4 * r) / n, 0.0), 0.98)


def se_ar1(x: Floats) -> tuple[float, float]:
    """(standard error of the mean, n_eff) of a series, shape (n,), n >= 2, as an AR(1) process.

    n_eff = n (1 - rho) / (1 + rho), not below 2; never below the standard error of independent
    values, since `rho` is not negative.
    """
    r = rho(x)
    n_eff = max(len(x) * (1 - r) / (1 + r), 2.0)
    return float(x.std(ddof=1)) / math.sqrt(n_eff), n_eff


def se_nbm(x: Floats, batches: int = NBM_BATCHES) -> float:
    """Standard error of the mean from non-overlapping batch means; infinite if n < batches.

    The newest `batches` * m values of the series, shape (n,), are used. It sees memory that is
    longer than AR(1) can.
    """
    m = len(x) // batches
    if m < 1:
        return math.inf
    means = x[len(x) - m * batches :].reshape(batches, m).mean(axis=1)
    return float(means.std(ddof=1)) / math.sqrt(batches)


def hw_nbm(x: Floats, batches: int = NBM_BATCHES, confidence: float = CONFIDENCE) -> float:
    """Half-width from non-overlapping batch means of a series, shape (n,); infinite if n < batches.

    t with batches - 1 degrees of freedom.
    """
    return t_quantile(0.5 + confidence / 2, batches - 1) * se_nbm(x, batches)


def mean_ci(x: Floats, confidence: float = CONFIDENCE) -> Interval:
    """The mean of a series in time order, shape (n,), n >= 1, and its interval.

    The wider of the AR(1) and the 10-batch-means standard error, times one t quantile: AR(1) holds
    for short series, batch means for long memory. Fewer than 10 values: an infinite half-width.

    Degrees of freedom are n / (3 V - 2) with V = n / n_eff: the estimate of log V has variance
    4 V / n at an AR(1) process (delta method), which the usual n_eff - 1 leaves out. It is counted
    by the excess of V over 1, since `rho` never claims less than independence.

    Simulated at n = 40 / 60 / 120, nominal 95 %: 96.0 / 96.2 / 96.9 % at phi 0, 94.4 / 95.1 /
    96.0 % at 0.3, 94.7 / 95.6 / 96.1 % at 0.6. The wider of two separate intervals with n_eff - 1
    and 9 degrees of freedom gave 96.5 / 97.1 / 97.6, 94.1 / 95.3 / 96.6 and 92.6 / 94.1 / 95.8 %.
    """
    n = len(x)
    if n < 2:
        return Interval(float(np.mean(x)), math.inf, 1.0)
    se, n_eff = se_ar1(x)
    t = t_quantile(0.5 + confidence / 2, half_width_df(n, n_eff))
    return Interval(float(x.mean()), t * max(se, se_nbm(x)), n_eff)


def half_width_df(n: float, n_eff: float) -> float:
    """Degrees of freedom of the interval of `mean_ci` for n values that are worth n_eff."""
    return max(n / (3 * n / n_eff - 2), 1.0)


# --- detectors ------------------------------------------------------------------------------------


def step(x: Floats, least: int = 5) -> Step:
    """The best single shift of the mean of a series in time order, shape (n,).

    Least squares over all splits that leave `least` values on either side (n // 5, at least 3, in a
    series shorter than 4 * least); the standard error carries the AR(1) factor of what is left
    after both means. Too short a series has no step.

    `least` does not grow with n: a step seen early in a window would otherwise leave the reach of
    the search as the window grows, and be forgotten (simulated: a 2 % step went unnoticed in 2.6 %
    of runs at phi 0.6, block sd 0.5 %, with a tenth of n; in 0.2 % so).
    """
    n = len(x)
    lo = least if n >= 4 * least else max(3, n // 5)
    if n < 2 * lo + 1:
        return Step(0, 0.0, 0.0)
    splits = np.arange(lo, n - lo + 1)
    mean = float(x.mean())
    sums = np.cumsum(x - mean)
    shift = (sums[-1] - sums[splits - 1]) / (n - splits) - sums[splits - 1] / splits
    best = int(np.argmax(np.abs(shift) * np.sqrt(splits * (n - splits) / n)))
    return shift_at(x, int(splits[best]))


def shift_at(x: Floats, index: int) -> Step:
    """The shift of the mean at a given split of a series, shape (n,), 0 < index < n, n >= 3."""
    n = len(x)
    before, after = float(x[:index].mean()), float(x[index:].mean())
    residual = np.concatenate((x[:index] - before, x[index:] - after))
    r = rho(residual)
    spread = math.sqrt(float(residual @ residual) / (n - 2))
    se = spread * math.sqrt((1 + r) / (1 - r) * (1 / index + 1 / (n - index)))
    return Step(index, _share(after - before, x), _ratio(after - before, se, x))


def shift_of_halves(x: Floats) -> Step:
    """The shift between the halves of a series, shape (2 m,), m >= 2, that may still be bending.

    As `shift_at`, but the noise is what is left about a parabola: a smooth approach to a steady
    rate is then no noise of its own, as it would be about two means or a line.
    """
    n = len(x)
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, n), 3))
    residual = x - basis @ (basis.T @ x)
    r = rho(residual)
    se = math.sqrt(float(residual @ residual) / (n - 3) * (1 + r) / (1 - r) * 4 / n)
    change = float(x[n // 2 :].mean() - x[: n // 2].mean())
    return Step(n // 2, _share(change, x), _ratio(change, se, x))


def drift(x: Floats) -> Drift:
    """The linear trend of a series in time order, shape (n,); none if n < 3.

    Ordinary least squares; the standard error carries the AR(1) factor of the residuals.
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
    return Drift(_share(slope * n, x), _ratio(slope * n, se * n, x))


def _share(change: float, x: Floats) -> float:
    mean = float(x.mean())
    return change / mean if mean else 0.0


def _ratio(change: float, se: float, x: Floats) -> float:
    """|change| over its standard error; rounding in a constant series is no change."""
    floor = _ROUNDING * float(np.abs(x).max())
    return abs(change) / max(se, floor) if abs(change) > floor else 0.0


# --- latency --------------------------------------------------------------------------------------


def percentile_ci(
    latencies: Floats,
    p: float,
    batches: int = PERCENTILE_BATCHES,
    confidence: float = CONFIDENCE,
) -> Span | None:
    """The p-quantile of latencies in time order, shape (n,), and its interval.

    The share above the quantile in each of `batches` stretches gives a t interval of its rank
    (indicator batch means); never narrower than the binomial interval of independent values. `hi`
    is None when the upper rank lies beyond the data. None below `percentile_least(p)` values.

    Simulated, p50 to p99.9, lognormal latencies, phi 0 to 0.8, with and without stalls: 93.8 to
    97.1 %. With 10 stretches, and their t quantile on the binomial error too, 94.6 to 99.1 %:
    independent latencies got intervals that were a sixth too wide.
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


# --- trials and ratios ----------------------------------------------------------------------------


def logs(values: Floats) -> Logs:
    """Logarithms of positive trial means, shape (r,), r >= 1, as `ratio_of` takes them."""
    x = np.log(values)
    return Logs(float(x.mean()), float(x.var(ddof=1)) if len(x) > 1 else 0.0, len(x))


def ratio_ci(a: Floats, b: Floats, confidence: float = CONFIDENCE) -> Span:
    """The ratio a / b of two sets of trial means, shapes (r_a,) and (r_b,), all positive, r >= 2.

    Welch's t interval on logarithms; the value is the ratio of the geometric means.
    """
    return ratio_of(logs(a), logs(b), confidence)


def ratio_of(a: Logs, b: Logs, confidence: float = CONFIDENCE) -> Span:
    """As `ratio_ci`, from the logarithms' moments."""
    if a.count < 2 or b.count < 2:
        raise ValueError(f"A ratio needs 2 trials on either side, not {a.count} and {b.count}.")
    d = a.mean - b.mean
    spread = sum_of_variances(
        (a.variance / a.count, a.count - 1), (b.variance / b.count, b.count - 1)
    )
    if spread is None:
        return Span(math.exp(d), math.exp(d), math.exp(d))
    variance, df = spread
    # df as it is: rounding it costs up to 4 % of the width at 3 trials
    h = _t_quantile(0.5 + confidence / 2, df) * math.sqrt(variance)
    return Span(math.exp(d), math.exp(d - h), math.exp(d + h))


def ratios_of(pairs: Sequence[tuple[Logs, Logs]], confidence: float = CONFIDENCE) -> list[Span]:
    """As `ratio_of` for many pairs at once: a call of scipy for all of them, not one for each."""
    if not pairs:
        return []
    from scipy.special import stdtrit

    moments = [(a.mean, b.mean, a.variance, b.variance, a.count, b.count) for a, b in pairs]
    means, variances, counts = np.hsplit(np.array(moments, dtype=np.float64), 3)
    if counts.min() < 2:
        raise ValueError("A ratio needs 2 trials on either side.")
    parts = variances / counts
    variance = parts.sum(axis=1)
    weight = (parts * parts / (counts - 1)).sum(axis=1)
    some = weight > 0
    df = np.divide(variance * variance, weight, out=np.ones_like(variance), where=some)
    reach = np.where(some, stdtrit(df, 0.5 + confidence / 2) * np.sqrt(variance), 0.0)
    d = means[:, 0] - means[:, 1]
    value, lo, hi = (np.exp(x).tolist() for x in (d, d - reach, d + reach))
    return [Span(*each) for each in zip(value, lo, hi, strict=True)]


def sum_of_variances(*parts: tuple[float, float]) -> tuple[float, float] | None:
    """The sum of independent (variance, degrees of freedom), and the degrees that it is worth.

    Welch and Satterthwaite; None when there is no variance at all.
    """
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return None
    return total, total * total / sum(variance * variance / df for variance, df in parts)


def trial_interval(
    means: Floats,
    within_se: Floats | None = None,
    target: float = 0.005,
    confidence: float = CONFIDENCE,
) -> TrialInterval:
    """What several trials of one point say together.

    Args:
        means: throughput of each trial, shape (r,), r >= 1.
        within_se: standard error of each trial's mean (`se_ar1`), shape (r,); None if unknown.
        target: relative half-width that `trials_needed` is to reach.
        confidence: of the interval.

    The trial is the sample: t with r - 1 degrees of freedom. within^2 is the mean of within_se^2,
    between^2 = max(0, sd^2 - within^2) (one-way random effects, method of moments).
    """
    r = len(means)
    mean = float(np.mean(means))
    within = None if within_se is None else math.sqrt(float(np.mean(np.square(within_se))))
    if r < 2:
        return TrialInterval(mean, None, r, None, within, None, None)
    sd = float(np.std(means, ddof=1))
    between = math.sqrt(max(0.0, sd * sd - (within or 0.0) ** 2))
    return TrialInterval(
        mean=mean,
        half_width=t_quantile(0.5 + confidence / 2, r - 1) * sd / math.sqrt(r),
        trials=r,
        sd=sd,
        within_sd=within,
        between_sd=between,
        trials_needed=trials_needed(sd / abs(mean), target, confidence) if mean else None,
    )


def trials_needed(relative_sd: float, target: float, confidence: float = CONFIDENCE) -> int:
    """Least r >= 2 with t(r - 1) sd / sqrt(r) <= target, both relative to the mean.

    4, 7, 18 for sd = 0.25, 0.5, 1 % and a target of 0.5 %. No more than a million.
    """
    p = 0.5 + confidence / 2

    def enough(r: int) -> bool:
        return t_quantile(p, r - 1) * relative_sd / math.sqrt(r) <= target

    hi = 2
    while not enough(hi) and hi < 1_000_000:
        hi *= 2
    lo = hi // 2
    while hi - lo > 1:
        mid = (lo + hi) // 2
        lo, hi = (lo, mid) if enough(mid) else (mid, hi)
    return min(max(hi, 2), 1_000_000)


def outliers(x: Floats) -> Outliers:
    """How many values of x, shape (n,), lie far from the rest; fewer than 4 values have none.

    Tukey's outer fence (1977), and hyperfine's modified z-score over 10.
    """
    if len(x) < 4:
        return Outliers(0, 0, 0)
    q1, median, q3 = (float(q) for q in np.quantile(x, [0.25, 0.5, 0.75]))
    slack = 1e-9 * max(abs(q1), abs(q3))
    reach = 3 * (q3 - q1) + slack
    tukey = (x < q1 - reach) | (x > q3 + reach)
    away = np.abs(x - median)
    mad = away > 10 * 1.4826 * float(np.median(away)) + slack
    return Outliers(int(tukey.sum()), int(mad.sum()), int((tukey | mad).sum()))


# --- scaling --------------------------------------------------------------------------------------


def usl(n: npt.ArrayLike, fit: Scaling) -> Floats:
    """Throughput that the law gives at n workers, in the unit of gamma; shape of n."""
    n = np.asarray(n, dtype=np.float64)
    return np.asarray(fit.gamma * n / (1 + fit.sigma * (n - 1) + fit.kappa * n * (n - 1)))


def usl_fit(n: npt.ArrayLike, throughput: npt.ArrayLike) -> Scaling:
    """Fit the universal scalability law (Gunther) to throughput at n workers, shapes (k,), k >= 1.

    N / X(N) is linear in 1/gamma, sigma/gamma and kappa/gamma: weighted (1/y) non-negative least
    squares, solved exactly by trying the four sets of free coefficients. No optimiser, no start.
    """
    gamma, sigma, kappa = _usl_fits(
        np.asarray(n, dtype=np.float64), np.asarray(throughput, dtype=np.float64)[None]
    )[0]
    return Scaling(float(gamma), float(sigma), float(kappa))


def _usl_fits(n: Floats, throughput: Floats) -> Floats:
    """Gamma, sigma, kappa of many fits at once: throughput of shape (b, k) gives shape (b, 3)."""
    y = n / throughput
    design = np.stack((np.ones_like(n), n - 1, n * (n - 1)), axis=1)
    scale = np.maximum(np.abs(design).max(axis=0), 1.0)
    weighted = (design / scale) / y[:, :, None]
    best = np.full(len(y), np.inf)
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
) -> ScalingInterval:
    """Intervals of sigma, kappa and the predicted throughput at `at` workers.

    Args:
        n: numbers of workers, shape (k,).
        trials: throughput of each trial, k arrays of shape (r_i,), r_i >= 1, one of them with 2.
        at: numbers of workers to predict for, shape (m,).
        draws: of the bootstrap.
        seed: of the bootstrap.
        confidence: of the intervals.

    Parametric bootstrap on log trial means: t around each, with one spread and its degrees of
    freedom pooled over all n.
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
    gamma, sigma, kappa = _usl_fits(n, np.exp(z)).T[:, :, None]
    predicted = gamma * at / (1 + sigma * (at - 1) + kappa * at * (at - 1))
    ends = np.quantile(
        np.concatenate((sigma, kappa, predicted), axis=1),
        [0.5 - confidence / 2, 0.5 + confidence / 2],
        axis=0,
    )
    return ScalingInterval(
        sigma=(float(ends[0, 0]), float(ends[1, 0])),
        kappa=(float(ends[0, 1]), float(ends[1, 1])),
        lo=ends[0, 2:],
        hi=ends[1, 2:],
    )
