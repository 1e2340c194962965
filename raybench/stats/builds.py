"""Variance between separately built plans, between the trials of a plan, and within a trial.

A builder that chooses kernels by timing them builds another plan each time, and its trials share
what that plan happens to be: a build is a random effect above the trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.ratios import Logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.stats.intervals import Floats


@dataclass(frozen=True)
class VarianceParts:
    """Variance in parts, in the square of the unit of the values; they add up.

    Attributes:
        builds: between builds; with that between trials in it where `trials` is None.
        trials: between trials of a build, beyond the noise within them; None with one trial a build.
        within: of a trial's mean by the noise within it; None where unknown, and then in `trials`.
    """

    builds: float
    trials: float | None
    within: float | None


def variance_parts(builds: Sequence[Floats], within: float | None = None) -> VarianceParts:
    """Part the variance of trials into builds, trials and within.

    A nested random-effects model y = mean + build + trial + noise, estimated by analysis of variance
    with unequal numbers of trials (Searle, Casella and McCulloch, Variance Components, 1992, section
    3.6): with a builds of n_i of N trials, MSA = sum n_i (mean_i - mean)^2 / (a - 1),
    MSE = sum (y_ij - mean_i)^2 / (N - a) and n_0 = (N - sum n_i^2 / N) / (a - 1), the variance
    between builds is max(0, (MSA - MSE) / n_0) and that between trials max(0, MSE - within).

    Args:
        builds: values of the trials of each build, two builds or more of one trial or more.
        within: variance of a trial's mean by the noise within it; None if unknown.

    Raises:
        ValueError: with fewer than two builds.
    """
    if len(builds) < 2:
        raise ValueError(f"A spread between builds needs 2 of them, not {len(builds)}.")
    counts = np.array([len(values) for values in builds], dtype=np.float64)
    means = np.array([np.mean(values) for values in builds])
    total, count = counts.sum(), len(builds)
    centre = float(counts @ means / total)
    between = float(counts @ (means - centre) ** 2) / (count - 1)
    if total == count:
        return VarianceParts(max(0.0, between - (within or 0.0)), None, within)
    inside = float(
        sum(np.sum((np.asarray(v) - m) ** 2) for v, m in zip(builds, means, strict=True))
    )
    inside /= total - count
    effective = (total - float(counts @ counts) / total) / (count - 1)
    return VarianceParts(
        max(0.0, (between - inside) / effective), max(0.0, inside - (within or 0.0)), within
    )


def over_builds(logs: Sequence[Logs]) -> Logs:
    """Return the moments over builds, of which each counts once however many trials it has.

    Args:
        logs: of the trials of each build.
    """
    means = np.array([build.mean for build in logs])
    variance = float(means.var(ddof=1)) if len(means) > 1 else 0.0
    return Logs(float(means.mean()), variance, len(means))


def differences(a: Sequence[Logs], b: Sequence[Logs]) -> Logs:
    """Return the moments of a - b over plans that both sides ran, of which each counts once.

    What a plan adds to both sides cancels, so that the spread between builds is not in the variance.

    Args:
        a: of the trials of each plan.
        b: of the same plans, in the same order.
    """
    pairs = zip(a, b, strict=True)
    return over_builds([Logs(one.mean - other.mean, 0.0, 1) for one, other in pairs])
