"""Throughput over the power limit of the devices: the knee, the best items a joule, a rack's power."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series, without
from raybench.analysis.tables import curves_as_table
from raybench.experiment import CLOSED
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

WITHIN = 0.02
"""The knee is the lowest limit whose rate is within this share of the highest, by the lower end of the
interval of their ratio."""
HOSTS = "Hosts, switches and cooling are not included"


@dataclass(frozen=True)
class PoweredPoint:
    """One power limit.

    Attributes:
        power_limit_w: that each device was set to.
        status: ok, or why there is no number.
        items_per_s: mean over trials, all devices.
        interval: see `scaling.ScalingEntry`.
        share: of the highest rate of the curve.
        items_per_j: over trials, of the energy that was measured.
        avg_power_w: of all devices together, median over trials.
        sm_clock_mhz_mean: median over trials.
    """

    power_limit_w: float
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    share: Estimate = UNKNOWN
    items_per_j: Estimate = UNKNOWN
    avg_power_w: float | None = None
    sm_clock_mhz_mean: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RackShare:
    """What the devices that a rack has power for serve at one limit.

    Attributes:
        devices: as many as their limits allow.
        items_per_s: of all of them, each as it was measured.
    """

    power_limit_w: float
    devices: int
    items_per_s: Estimate


@dataclass(frozen=True)
class PowerCurve:
    """Throughput over the power limit, all else equal.

    Attributes:
        series: of every other factor.
        workers: number of devices.
        points: by power limit.
        knee_w: the lowest limit whose rate is within 2 % of the highest; None where none is seen.
        best_w: the limit with the most items a joule; None without readings of energy.
        finding: what the curve shows, in one sentence with figures.
        missing: what limits it, a sentence each.
    """

    series: Series
    workers: int | None
    points: tuple[PoweredPoint, ...]
    knee_w: float | None
    best_w: float | None
    finding: str
    missing: tuple[str, ...]
    marks: tuple[str, ...]

    def racks(self, rack_power_w: float) -> tuple[RackShare, ...]:
        """Return what a rack of so much power serves at each limit that has a number.

        A device takes what its limit allows. Whole devices count, and their rates add up.
        """
        shares = []
        for point in self.points:
            if point.items_per_s.value is None:
                continue
            devices = int(rack_power_w // point.power_limit_w)
            rate = point.items_per_s.over((self.workers or 1) / devices) if devices else UNKNOWN
            shares.append(RackShare(point.power_limit_w, devices, rate))
        return tuple(shares)

    def in_rack(self, rack_power_w: float) -> str:
        """Return what a rack of so much power serves at the highest limit and at the best, in a sentence."""
        shares = self.racks(rack_power_w)
        possible = [share for share in shares if share.devices]
        if not possible:
            lowest = min((share.power_limit_w for share in shares), default=None)
            why = (
                "no limit has a number"
                if lowest is None
                else f"not one device: the lowest limit is {lowest:g} W"
            )
            return f"At {rack_power_w:,.15g} W: {why}."
        most = max(possible, key=lambda share: share.items_per_s.value or 0.0)
        usual = possible[-1]
        clauses = [_rack_clause(share) for share in dict.fromkeys([usual, most])]
        clauses[-1] += ", the most"
        at = f"At {rack_power_w:,.15g} W: {', '.join(clauses)}"
        return f"{at}{_sure(usual, most)}. {HOSTS}."


def _rack_clause(share: RackShare) -> str:
    value, lo, hi = share.items_per_s
    interval = "" if lo is None or hi is None else f" [{lo:,.0f}, {hi:,.0f}]"
    give = agreeing(share.devices, "gives", "give")
    return (
        f"{counted(share.devices, 'device')} at {share.power_limit_w:g} W {give} {value or 0.0:,.0f} "
        f"items/s{interval}"
    )


def _sure(usual: RackShare, most: RackShare) -> str:
    """Return a doubt where the intervals of the two overlap."""
    if usual == most or most.items_per_s.lo is None or usual.items_per_s.hi is None:
        return ""
    return "; which may be no gain" if most.items_per_s.lo <= usual.items_per_s.hi else ""


@dataclass(frozen=True)
class Power:
    """The curves of all series that were measured at several power limits."""

    curves: tuple[PowerCurve, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each point, with the columns of its curve's series."""
        return curves_as_table(PoweredPoint, self.curves)


@dataclass(frozen=True)
class _Limit:
    """The cells of one limit: of the rate, and of the joules that an item takes where they are known."""

    watts: float
    rate: Cell
    joules: Cell | None


def power(trials: pa.Table) -> Power:
    """Return throughput and items a joule over the power limit, from rows in closed loop."""
    groups: dict[tuple[Series, int | None], dict[float, Cell]] = defaultdict(dict)
    for cell in cells(trials):
        watts = cell.series.power_limit_w
        if cell.series.load == CLOSED and watts is not None:
            key = without(cell.series, "power_limit_w"), cell.workers
            groups[key].setdefault(watts, cell)  # those with numbers come first
    several = {key: members for key, members in groups.items() if len(members) > 1}
    every = cells(trials, metric="j_per_item") if several else []
    joules = {(cell.series, cell.workers): cell for cell in every if cell.ok}
    return Power(
        tuple(
            _curve(
                series,
                workers,
                [
                    _Limit(watts, cell, joules.get((cell.series, workers)))
                    for watts, cell in sorted(members.items())
                ],
            )
            for (series, workers), members in several.items()
        )
    )


def _curve(series: Series, workers: int | None, limits: Sequence[_Limit]) -> PowerCurve:
    good = [limit for limit in limits if limit.rate.mean]
    top = max(good, key=lambda limit: limit.rate.mean or 0.0, default=None)
    points = tuple(_point(limit, top) for limit in limits)
    knee = next((point for point in points if _surely_within(point)), None)
    known = [limit for limit in good if limit.joules is not None and limit.joules.mean]
    best = min(known, key=lambda limit: _mean(limit.joules), default=None)
    sentences = [_knee_sentence(points, knee), _best_sentence(best, known)]
    risen = knee is not None and knee.power_limit_w < good[-1].watts
    return PowerCurve(
        series=series,
        workers=workers,
        points=points,
        knee_w=knee.power_limit_w if knee is not None and risen else None,
        best_w=None if best is None else best.watts,
        finding=" ".join(filter(None, sentences)),
        missing=_missing(points, knee, best),
        marks=marks_of([limit.rate for limit in good]),
    )


def _point(limit: _Limit, top: _Limit | None) -> PoweredPoint:
    cell = limit.rate
    if not cell.ok or top is None:
        return PoweredPoint(limit.watts, cell.status, cell.reason, cell.trials)
    return PoweredPoint(
        power_limit_w=limit.watts,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.estimate,
        interval=cell.interval,
        share=ratio_to(cell, top.rate),
        items_per_j=_per_joule(limit.joules),
        avg_power_w=cell.get("avg_power_w"),
        sm_clock_mhz_mean=cell.get("sm_clock_mhz_mean"),
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks,
    )


def _mean(joules: Cell | None) -> float:
    return joules.mean if joules is not None and joules.mean else float("inf")


def _per_joule(joules: Cell | None) -> Estimate:
    """Return items a joule from joules an item: the bounds change places."""
    if joules is None or not joules.mean:
        return UNKNOWN
    lo, hi = joules.lo, joules.hi
    return Estimate(1 / joules.mean, 1 / hi if hi else None, 1 / lo if lo else None)


def _surely_within(point: PoweredPoint) -> bool:
    """Return whether a rate is within 2 % of the highest, as far as the trials say."""
    value, lo, _ = point.share
    sure = value if lo is None else lo
    return sure is not None and sure >= 1 - WITHIN


def _knee_sentence(points: Sequence[PoweredPoint], knee: PoweredPoint | None) -> str:
    good = [point for point in points if point.items_per_s.value]
    if knee is None or not good:
        return "No power limit has a number of items/s."
    highest = good[-1]
    if knee is highest:
        return f"No knee: the rate grows up to the highest limit, {highest.power_limit_w:g} W."
    at = f"Knee at {knee.power_limit_w:g} W"
    if knee.share.value == 1:
        lower = (
            "is the lowest that was measured"
            if knee is good[0]
            else f"no lower limit is surely within {100 * WITHIN:g} % of it"
        )
        return f"{at}: it has the highest rate, and {lower}."
    lowest = ", and the lowest that was measured" if knee is good[0] else ""
    return (
        f"{at}: the lowest limit whose rate is within {100 * WITHIN:g} % of the highest, "
        f"{_ratio(knee.share)} of it{lowest}."
    )


def _best_sentence(best: _Limit | None, known: Sequence[_Limit]) -> str:
    if best is None:
        return ""
    text = f"Most items a joule at {best.watts:g} W: {_per_joule(best.joules).value:,.4g} items/J"
    last = known[-1]
    if best is last:
        return f"{text}."
    gain = ratio_to(last.joules, best.joules) if last.joules is not None else UNKNOWN
    sure = ", which may be no gain" if gain.lo is not None and gain.lo <= 1 else ""
    return f"{text}, {_ratio(gain)} times those at {last.watts:g} W{sure}."


def _ratio(estimate: Estimate) -> str:
    value, lo, hi = estimate
    if lo is None or hi is None:
        return f"{value:.3f}" + ("" if value == 1 else " (no interval with one trial)")
    return f"{value:.3f} [{lo:.3f}, {hi:.3f}]"


def _missing(
    points: Sequence[PoweredPoint], knee: PoweredPoint | None, best: _Limit | None
) -> tuple[str, ...]:
    good = [point for point in points if point.items_per_s.value]
    sentences = []
    undecided = [
        f"{point.power_limit_w:g} W"
        for point in good
        if not _surely_within(point) and point.share.hi is not None and point.share.hi >= 1 - WITHIN
        if knee is None or point.power_limit_w < knee.power_limit_w
    ]
    if undecided:
        sentences.append(
            f"The knee may lie lower: {' and '.join(undecided)} may be within {100 * WITHIN:g} % of the "
            "highest, too. More trials decide it."
        )
    elif knee is not None and knee is good[0]:
        sentences.append("The knee may lie lower: measure lower limits.")
    if best is not None and good and best.watts == good[0].power_limit_w:
        sentences.append("The most items a joule may lie lower: measure lower limits.")
    if good and best is None:
        sentences.append("No items a joule: no energy was read.")
    return tuple(sentences)
