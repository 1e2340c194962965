"""The highest rate that a search confirmed, from its rows: with its interval, or why there is none."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.results.search_trials import CONFIRMING, MOST_STEPS, disturbances, role, that_count
from raybench.stats.crossing import rising_crossing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from raybench.stats.intervals import Span

    Row = Mapping[str, Any]
    ByRate = Mapping[float, Sequence[Row]]

CONFIDENCE = 0.97
"""Of the interval, for 95 % of searches: what is asked depends on what was seen, and the logarithm of the
share is not quite straight (`benchmarks/rate_search.py`)."""
NEAR = 5.0
"""Rates enter the interval whose share of late items is within this factor of the one allowed."""
LEAST = 0.01
"""A smaller share counts as so much of the one allowed, since none has no logarithm."""


class ConfirmedRate(NamedTuple):
    """The answer of a search.

    Attributes:
        items_per_s: the rate, with the interval of the capacity.
        late: share of the items in its confirming trials that took longer than the bound.
        capacity_items_per_s: best estimate of the capacity, of which the interval is; None where the ends
            of the interval are rates at which a trial surely kept the bound and surely did not.
        undecided: confirming trials whose sample alone does not decide whether the bound was kept.
    """

    items_per_s: Estimate
    late: float | None
    capacity_items_per_s: float | None
    undecided: int


NONE = ConfirmedRate(UNKNOWN, None, None, 0)


def confirmed_rate(rows: Iterable[Row], percentile: float) -> ConfirmedRate:
    """Return the highest rate whose confirming trials kept the bound together.

    The interval is of the capacity, the highest rate at which no more items are late than the
    percentile allows: where a line through the logarithms of the shares over the rate crosses it,
    widened to hold the rate itself, which errs on the low side. Where the trials do not determine the
    line, it reaches from the highest rate up to the answer at which every trial surely kept the bound
    to the lowest above it at which an undisturbed one surely did not; an end that none decides is unknown.

    Args:
        rows: of one number of workers: trial, status, flags, offered_items_per_s, slo_met and
            slo_violation_frac.
        percentile: of the latencies that is to keep the bound.
    """
    by_rate, allowed = _by_rate(rows), 1 - percentile / 100
    late = {rate: _late_share(ones) for rate, ones in by_rate.items()}
    confirmed = {rate: share for rate, share in late.items() if share is not None}
    confirmed = {rate: share for rate, share in confirmed.items() if share <= allowed}
    if not confirmed:
        return NONE
    answer = max(confirmed)
    undecided = sum(row["slo_met"] is None for row in by_rate[answer] if role(row["trial"] or 0))
    fit = _fit(by_rate, allowed)
    if fit is None or fit.lo is None or fit.hi is None:
        return ConfirmedRate(_between_sure(by_rate, answer), confirmed[answer], None, undecided)
    interval = Estimate(answer, min(fit.lo, answer), max(fit.hi, answer))
    return ConfirmedRate(interval, confirmed[answer], fit.value, undecided)


def fitted_capacity(rows: Iterable[Row], percentile: float) -> Span | None:
    """Return the highest rate at which no more items are late than the percentile allows.

    It is where the line of `confirmed_rate` crosses; None where the trials do not determine it. Rows of
    several searches of the same system may be given together.
    """
    return _fit(_by_rate(rows), 1 - percentile / 100)


def _by_rate(rows: Iterable[Row]) -> dict[float, list[Row]]:
    """Return the rows that count and have a number, by the rate that was offered."""
    by_rate: dict[float, list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok" and row["offered_items_per_s"] is not None:
            by_rate[row["offered_items_per_s"]].append(row)
    return {rate: that_count(ones) for rate, ones in by_rate.items()}


def what_disturbed(rows: Iterable[Row]) -> tuple[int, str | None]:
    """Return how many trials were disturbed, and by what, the most frequent first."""
    causes = [found for row in rows if (found := disturbances(row))]
    frequent = Counter(name for found in causes for name in found).most_common()
    return len(causes), ", ".join(name for name, _ in frequent) or None


def _late_share(rows: Sequence[Row]) -> float | None:
    """Return the share of late items in the trials that confirm a rate together; None if they do not."""
    trials = [row for row in rows if role(row["trial"] or 0)]
    shares = [row["slo_violation_frac"] for row in trials if row["slo_violation_frac"] is not None]
    if len(shares) < CONFIRMING or any(row["slo_met"] is False for row in trials):
        return None
    return float(sum(shares) / len(shares))


def _fit(by_rate: ByRate, allowed: float) -> Span | None:
    """Return the rate at which the share of late items is what is allowed, with its interval."""
    shares = {
        rate: known
        for rate, ones in by_rate.items()
        if (known := [s for one in ones if (s := one["slo_violation_frac"]) is not None])
        and allowed / NEAR <= sum(known) / len(known) <= allowed * NEAR
    }
    pairs = [(rate, share / allowed) for rate, ones in shares.items() for share in ones]
    if not pairs:
        return None
    rates, over = np.array(pairs).T
    return rising_crossing(rates, np.log(np.maximum(over, LEAST)), CONFIDENCE)


def _between_sure(by_rate: ByRate, answer: float) -> Estimate:
    kept = [rate for rate, ones in by_rate.items() if all(one["slo_met"] for one in ones)]
    broken = [
        rate
        for rate, ones in by_rate.items()
        if any(one["slo_met"] is False and not disturbances(one) for one in ones)
    ]
    lo = max((rate for rate in kept if rate <= answer), default=None)
    hi = min((rate for rate in broken if rate > answer), default=None)
    return Estimate(answer, lo, hi)


def why_none(rows: Sequence[Row], percentile: float) -> str:
    """Return why no rate was confirmed, and what to do, as a sentence."""
    tried = [row for row in rows if row["status"] == "ok" and row["offered_items_per_s"]]
    if not tried:
        return "No trial in open loop gave a number."
    if any(row["slo_met"] is None and row["slo_violation_frac"] is None for row in tried):
        return "Too few items arrived for the percentile: use a longer measure.max_s."
    least = min(tried, key=lambda row: row["offered_items_per_s"])
    share, rate = least["slo_violation_frac"], least["offered_items_per_s"]
    if least["slo_met"] is not False and (share is None or share <= 1 - percentile / 100):
        failed = {row["offered_items_per_s"] for row in tried if role(row["trial"] or 0)}
        if len(failed) > MOST_STEPS:
            return (
                f"{len(failed)} rates down to {rate:,.0f} items/s were not confirmed: trials at one rate "
                "differ by too much. Look at their flags, or use a longer measure.max_s."
            )
        return (
            "The search has not ended. The same command goes on with it; where a trial of it failed, "
            "with rerun=failed."
        )
    shown = (
        "the backlog grows"
        if share is None
        else f"{100 * share:.3g} % of the items take longer than {least['slo_ms']:g} ms"
    )
    median = least["latency_p50_ms"]
    text = f"Even at {rate:,.0f} items/s {shown}"
    if median is not None and median > least["slo_ms"]:
        return f"{text}, and half of them longer than {median:.3g} ms: the bound is below the service time."
    return f"{text}: look at the flags of that row."
