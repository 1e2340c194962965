"""Each device of a fleet against the others, or against a baseline, with false rejects under control.

Everything is about logarithms of rates, so that a difference is a ratio. The null hypothesis of a
device is that its true ratio is at least 1 - tolerance; only a device for which that is untenable is
rejected, and only one for which the opposite is untenable is accepted. What is between is undecided.
`benchmarks/fleet.py` simulates how often each happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from raybench.stats.intervals import Floats

    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]

FALSE_REJECTS = 0.01
"""Chance of any reject in a fleet without a slow device, over all hypotheses together."""
ACCEPTED = 0.95
"""Confidence of the one-sided lower end that accepts a device."""
FOUND = 0.80
"""Chance with which the smallest visible shortfall is found, and with which more trials decide."""
OWN_NOISE = 0.01
"""Chance that any sound device or group is given a noise of its own."""
MOST_TRIALS = 1000
"""No more trials than this are advised: such a difference is not worth them."""


@dataclass(frozen=True)
class Moments:
    """Logarithms of the rates of n devices over their trials; arrays of shape (n,).

    Attributes:
        mean: of the logarithms.
        variance: with count - 1 in the denominator; 0 for a single trial.
        count: trials.
    """

    mean: Floats
    variance: Floats
    count: Floats


@dataclass(frozen=True)
class Contrasts:
    """Logarithms of ratios to what they are judged by; arrays of shape (n,).

    Attributes:
        log_ratio: the estimates.
        per_trial: variance of one trial that more trials average out.
        fixed: variance that more trials do not change.
        trials: that the estimates rest on.
        df: degrees of freedom of the variance; 0 where nothing is known of it.
    """

    log_ratio: Floats
    per_trial: Floats
    fixed: Floats
    trials: Floats
    df: Floats

    @property
    def error(self) -> Floats:
        """Standard errors; infinite where nothing is known of the variance."""
        known = self.df > 0
        error: Floats = np.where(known, np.sqrt(self.fixed + self.per_trial / self.trials), np.inf)
        return error

    def at(self, places: Sequence[int]) -> Contrasts:
        """Return the contrasts of some devices."""
        columns = (self.log_ratio, self.per_trial, self.fixed, self.trials, self.df)
        return Contrasts(*(column[list(places)] for column in columns))

    def ends(self, confidence: float = ACCEPTED) -> tuple[Floats, Floats]:
        """Return the ends of two-sided intervals of the ratios, 0 and infinity where unknown."""
        reach = _quantiles(0.5 + confidence / 2, self.df) * self.error
        with np.errstate(over="ignore"):
            return np.exp(self.log_ratio - reach), np.exp(self.log_ratio + reach)


@dataclass(frozen=True)
class Noise:
    """Variance of one value of each unit, and its degrees of freedom; arrays of shape (n,)."""

    variance: Floats
    df: Floats


# --- noise and centre -----------------------------------------------------------------------------


def moments(logs: list[Floats]) -> Moments:
    """Return the moments of each device from the logarithms of its trials, one or more each."""
    return Moments(
        mean=np.array([x.mean() for x in logs]),
        variance=np.array([x.var(ddof=1) if len(x) > 1 else 0.0 for x in logs]),
        count=np.array([float(len(x)) for x in logs]),
    )


def pooled_noise(variance: Floats, df: Floats) -> Noise:
    """Return the noise of each unit: pooled over all, or its own where that is larger beyond chance.

    A unit keeps its own beyond the 1 % point of F against the pool of the others, for the largest of
    all units (Bonferroni): at 1 % for each, a sound fleet of 128 would leave one device or two to
    their own two degrees of freedom, undecided. Such units leave the pool, the largest first, so
    that one noisy unit does not hide the others.

    Args:
        variance: of each unit, shape (n,).
        df: its degrees of freedom, shape (n,); a unit with 0 takes what is pooled.
    """
    from scipy.special import fdtri

    inside: Bools = df > 0
    weighed = np.where(inside, variance * df, 0.0)
    while inside.sum() > 1:
        rest_df = df[inside].sum() - df
        rest = (weighed[inside].sum() - weighed) / np.where(inside, rest_df, np.inf)
        excess = np.where(inside, variance - rest, -np.inf)
        k = int(excess.argmax())
        limit = fdtri(df[k], rest_df[k], 1 - OWN_NOISE / inside.sum())
        if not variance[k] > limit * rest[k]:
            break
        inside[k] = False
    pool_df = float(df[inside].sum())
    pool = float(weighed[inside].sum() / pool_df) if pool_df else 0.0
    own: Bools = (df > 0) & ~inside
    return Noise(np.where(own, variance, pool), np.where(own, df, pool_df))


def to_population(devices: Moments) -> Contrasts:
    """Return the ratio of each device to the middle of all: the median of their means.

    With two devices the other one takes the place of the middle.

    Args:
        devices: two or more.
    """
    noise = pooled_noise(devices.variance, devices.count - 1)
    if len(devices.mean) == 2:
        other = np.array([1, 0])
        scaled = noise.variance[other] * devices.count / devices.count[other]
        df = np.minimum(noise.df, noise.df[other])
        ratio = devices.mean - devices.mean[other]
        return _contrasts(ratio, noise.variance + scaled, devices.count, df)
    centre = float(np.median(devices.mean))
    typical = float(np.median(noise.variance / devices.count))
    steadied = steadiness(devices.mean - centre, math.sqrt(typical))
    of_centre = typical * steadied * devices.count  # as if it had the trials of the device
    return _contrasts(devices.mean - centre, noise.variance + of_centre, devices.count, noise.df)


def steadiness(away: Floats, error: float) -> float:
    """Return the variance of the median of n noisy means over the variance of one of them.

    This is pi / 2k of k normal means of one value (Cramer 1946), at most 1. Only those within two
    standard errors of the median count: a device far from the middle does not steady it.

    Args:
        away: means less their median, shape (n,).
        error: standard error of a mean.
    """
    near = int((np.abs(away) <= 2 * error).sum())
    return min(1.0, math.pi / (2 * max(near, 1)))


def to_baseline(devices: Moments, mean: float, variance: float, df: float) -> Contrasts:
    """Return the ratio of each device to a baseline.

    Args:
        devices: one or more.
        mean: logarithm of the baseline.
        variance: of that mean.
        df: degrees of freedom of that variance, above 0 unless the variance is 0.
    """
    noise = pooled_noise(devices.variance, devices.count - 1)
    own = noise.variance / devices.count
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = own**2 / noise.df + (variance**2 / df if variance else 0.0)
        welch = np.where(weight > 0, (own + variance) ** 2 / weight, noise.df)
    df_of = np.where(noise.df > 0, welch, 0.0)
    fixed = np.full_like(own, variance)
    return Contrasts(devices.mean - mean, noise.variance, fixed, devices.count, df_of)


def groups_to_population(devices: Moments, group: Ints) -> Contrasts:
    """Return the ratio of each group's mean to the middle of all devices.

    The devices of a group are a sample of what its host or rack would give: the spread between them
    is its noise, so that one slow card does not condemn its host.

    Args:
        devices: of all groups.
        group: number of each device's group, from 0, each with two devices or more; -1 for none.
    """
    members = [devices.mean[group == k] for k in range(int(group.max()) + 1)]
    within = moments(members)
    noise = pooled_noise(within.variance, within.count - 1)
    middle = float(np.median(noise.variance)) * math.pi / (2 * len(devices.mean))
    ratio = within.mean - float(np.median(devices.mean))
    fixed = noise.variance / within.count + middle
    return Contrasts(ratio, np.zeros_like(fixed), fixed, np.ones_like(fixed), noise.df)


def _contrasts(ratio: Floats, per_trial: Floats, trials: Floats, df: Floats) -> Contrasts:
    return Contrasts(ratio, per_trial, np.zeros_like(per_trial), trials, df)


# --- verdicts -------------------------------------------------------------------------------------


def p_values(contrasts: Contrasts, tolerance: float) -> Floats:
    """Return the one-sided p-value of "the true ratio is at least 1 - tolerance"; 1 where unknown."""
    from scipy.special import stdtr

    gap = contrasts.log_ratio - math.log1p(-tolerance)
    known = contrasts.df > 0
    p: Floats = np.where(
        known, stdtr(np.where(known, contrasts.df, 1.0), _in_errors(gap, contrasts)), 1.0
    )
    return p


def holm(p: Floats, level: float = FALSE_REJECTS) -> Bools:
    """Return which hypotheses are rejected with any false reject held below a level (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = p[order] <= level / np.arange(len(p), 0, -1)
    rejected = np.zeros(len(p), dtype=np.bool_)
    rejected[order] = np.logical_and.accumulate(steps)
    return rejected


def accepted(contrasts: Contrasts, tolerance: float) -> Bools:
    """Return which ratios are above 1 - tolerance: their one-sided 95 % lower end is."""
    gap = contrasts.log_ratio - math.log1p(-tolerance)
    enough: Bools = _in_errors(gap, contrasts) > _quantiles(ACCEPTED, contrasts.df)
    return enough


def smallest_visible(contrasts: Contrasts, tolerance: float, family: int) -> Floats:
    """Return the shortfall of each that would be found in 80 % of fleets, as the first of Holm's steps.

    Args:
        contrasts: of the devices.
        tolerance: share that a device may be slower.
        family: number of hypotheses judged together.
    """
    critical = _quantiles(1 - FALSE_REJECTS / family, contrasts.df)
    reach = (critical + _quantiles(FOUND, contrasts.df)) * contrasts.error
    return 1 - (1 - tolerance) * np.exp(-reach)


def trials_to_decide(contrasts: Contrasts, tolerance: float, family: int) -> list[int | None]:
    """Return how many trials of each device would decide in 80 % of cases, were it as it seems.

    None stands for more than 1,000, or never. Where nothing is known of the noise it is 3, the
    fewest of which the noise can be known well enough to say more.
    """
    limit = math.log1p(-tolerance)
    needed: list[int | None] = []
    columns = (contrasts.per_trial, contrasts.fixed, contrasts.df)
    for gap, trials, per_trial, fixed, df in zip(
        contrasts.log_ratio - limit, contrasts.trials, *columns, strict=True
    ):
        if trials < 2 or df <= 0:
            needed.append(3)
            continue
        counts = np.arange(trials + 1, MOST_TRIALS + 1)
        dfs = df * (counts - 1) / (trials - 1)
        share = 1 - FALSE_REJECTS / family if gap < 0 else ACCEPTED
        errors = np.sqrt(fixed + per_trial / counts)
        enough = abs(gap) >= (_quantiles(share, dfs) + _quantiles(FOUND, dfs)) * errors
        needed.append(int(counts[enough.argmax()]) if enough.any() else None)
    return needed


def _in_errors(gap: Floats, contrasts: Contrasts) -> Floats:
    """Return differences in standard errors; without any noise 0 or infinite."""
    error = contrasts.error
    certain = np.where(gap == 0, 0.0, np.copysign(np.inf, gap))
    scaled: Floats = np.where(error > 0, gap / np.where(error > 0, error, 1.0), certain)
    return scaled


def _quantiles(p: float, df: Floats) -> Floats:
    """Return quantiles of Student's t, p above a half; infinite where df is 0."""
    from scipy.special import stdtrit

    known = df > 0
    quantiles: Floats = np.where(known, stdtrit(np.where(known, df, 1.0), p), np.inf)
    return quantiles
