"""Intervals over trials: the mean of several trials, and the ratio of two sets of trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.intervals import CONFIDENCE, Span, bounds, exact_t_quantile, t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.stats.intervals import Floats


@dataclass(frozen=True)
class Logs:
    """Moments of the logarithms of one point's trial means.

    Attributes:
        mean: of the logarithms.
        variance: with count - 1 in the denominator; 0 for a single trial.
        count: trials.
    """

    mean: float
    variance: float
    count: int


@dataclass(frozen=True)
class TrialInterval:
    """The mean over several trials of one point, with its interval and spread.

    Attributes:
        mean: of the trial means.
        half_width: t interval with trials - 1 degrees of freedom; None for a single trial. The ends
            `lo` and `hi` are those of `intervals.bounds`.
        trials: number of trials.
        sd: standard deviation between the trial means; None for a single trial.
        within_sd: the part of `sd` explained by noise within trials (within-trial precision).
        between_sd: the rest (between-trial reproducibility), >= 0; None for a single trial.
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
        return None if self.half_width is None else float(bounds(self.mean, self.half_width)[0])

    @property
    def hi(self) -> float | None:
        """Upper end, or None for a single trial."""
        return None if self.half_width is None else float(bounds(self.mean, self.half_width)[1])


def logs(values: Floats) -> Logs:
    """Return the log moments of positive trial means, shape (r,), r >= 1, for `ratio_of`."""
    x = np.log(values)
    return Logs(float(x.mean()), float(x.var(ddof=1)) if len(x) > 1 else 0.0, len(x))


def ratio_ci(a: Floats, b: Floats, confidence: float = CONFIDENCE) -> Span:
    """Return the ratio a / b of two sets of trial means with Welch's t interval on logarithms.

    The value is the ratio of the geometric means.

    Args:
        a: trial means, shape (r_a,), r_a >= 2, all positive.
        b: trial means, shape (r_b,), r_b >= 2, all positive.
        confidence: of the interval.
    """
    return ratio_of(logs(a), logs(b), confidence)


def ratio_of(a: Logs, b: Logs, confidence: float = CONFIDENCE) -> Span:
    """Return the same as `ratio_ci`, from log moments.

    Raises:
        ValueError: when either side has fewer than 2 trials.
    """
    if a.count < 2 or b.count < 2:
        raise ValueError(f"A ratio needs 2 trials on either side, not {a.count} and {b.count}.")
    return ratio_with(
        a.mean - b.mean,
        [(a.variance / a.count, a.count - 1), (b.variance / b.count, b.count - 1)],
        confidence,
    )


def ratio_with(
    d: float, variances: Sequence[tuple[float, float]], confidence: float = CONFIDENCE
) -> Span:
    """Return the ratio whose logarithm is d, with an interval from independent variances.

    Args:
        d: logarithm of the ratio.
        variances: pairs of (variance, degrees of freedom).
        confidence: of the interval.
    """
    spread = sum_of_variances(*variances)
    if spread is None:
        return Span(math.exp(d), math.exp(d), math.exp(d))
    variance, df = spread
    # df is not rounded: that costs up to 4 % of the width at 3 trials
    h = exact_t_quantile(0.5 + confidence / 2, df) * math.sqrt(variance)
    return Span(math.exp(d), math.exp(d - h), math.exp(d + h))


def ratios_of(pairs: Sequence[tuple[Logs, Logs]], confidence: float = CONFIDENCE) -> list[Span]:
    """Return `ratio_of` for many pairs with a single call of scipy.

    Raises:
        ValueError: when any side has fewer than 2 trials.
    """
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
    varies = weight > 0
    df = np.divide(variance * variance, weight, out=np.ones_like(variance), where=varies)
    reach = np.where(varies, stdtrit(df, 0.5 + confidence / 2) * np.sqrt(variance), 0.0)
    d = means[:, 0] - means[:, 1]
    value, lo, hi = (np.exp(x).tolist() for x in (d, d - reach, d + reach))
    return [Span(*each) for each in zip(value, lo, hi, strict=True)]


def sum_of_variances(*parts: tuple[float, float]) -> tuple[float, float] | None:
    """Return the sum of independent variances and its effective degrees of freedom.

    Args:
        *parts: pairs of (variance, degrees of freedom).

    Returns:
        (variance, degrees of freedom) by Welch and Satterthwaite; None when the sum is 0.
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
    """Combine several trials of one point into a mean, an interval and two components of spread.

    The trial is the sample: t with r - 1 degrees of freedom. within^2 is the mean of within_se^2,
    between^2 = max(0, sd^2 - within^2) (one-way random effects, method of moments).

    Args:
        means: throughput of each trial, shape (r,), r >= 1.
        within_se: standard error of each trial's mean (`se_ar1`), shape (r,); None if unknown.
        target: relative half-width that `trials_needed` is to reach.
        confidence: of the interval.
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
    """Return the least r >= 2 with t(r - 1) sd / sqrt(r) <= target, at most a million.

    The result is 4, 7 and 18 for sd = 0.25, 0.5 and 1 % and a target of 0.5 %.

    Args:
        relative_sd: standard deviation between trials, relative to the mean.
        target: half-width, relative to the mean.
        confidence: of the interval.
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
