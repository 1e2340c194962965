"""What each device loses while one other works: the matrix of pairs against every device alone."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.analysis.cells import cells
from raybench.analysis.estimate import Estimate
from raybench.analysis.fleet import measured_devices, newest_trials
from raybench.analysis.resources import uses
from raybench.analysis.tables import as_table
from raybench.stats.ratios import ratio_ci

if TYPE_CHECKING:
    import pyarrow as pa

    from raybench.analysis.fleet import MeasuredDevices
    from raybench.analysis.series import Series

WORTH = 0.03
"""A smaller loss is not explained."""
FALSE_LOSSES = 0.05
"""Chance that any loss of a matrix is called sure where there is none (Bonferroni)."""


@dataclass(frozen=True)
class PairLoss:
    """What a device loses beside another.

    Attributes:
        device: name of the device.
        beside: name of the other, which works at the same time.
        ratio: rate beside the other over the rate alone, with the 95 % interval of Welch's t on
            logarithms; no interval with one trial of either.
        sure: whether the loss is there beyond doubt, over all pairs of the matrix.
        trials: trials of the pair.
        unstable: whether a trial behind it was unstable.
        shared: the resource that both want, where topology and a full counter agree; None if not seen.
    """

    device: str
    beside: str
    ratio: Estimate
    sure: bool
    trials: int
    unstable: bool
    shared: str | None = None


@dataclass(frozen=True)
class PairMatrix:
    """The losses of all pairs of one point.

    Attributes:
        series: without environment, versions and product of the device.
        devices: names, in their order.
        losses: by device and then by the other.
    """

    series: Series
    devices: tuple[str, ...]
    losses: tuple[PairLoss, ...]

    @property
    def finding(self) -> str:
        """What the matrix says, in sentences."""
        worst = min(self.losses, key=lambda loss: loss.ratio.value or math.inf)
        value = worst.ratio.value or 1.0
        sure = sum(loss.sure for loss in self.losses)
        if value >= 1:
            text = "no device is slower beside another than alone"
        else:
            text = f"{worst.device} loses the most, {100 * (1 - value):.1f} %{_interval(worst)}, beside {worst.beside}"
        counted = f"{sure} of {len(self.losses)} losses are beyond doubt"
        if all(loss.ratio.lo is None for loss in self.losses):
            counted = "no interval with one trial of a pair: measure trials=3"
        seen = "; ".join(dict.fromkeys(loss.shared for loss in self.losses if loss.shared))
        return f"{text}; {counted}; shared resource {f'that was full: {seen}' if seen else 'not seen'}."

    def as_table(self) -> pa.Table:
        """Return a row for each device and the one beside it."""
        return as_table(PairLoss, self.losses)


def interference(trials: pa.Table, workers: pa.Table) -> tuple[PairMatrix, ...]:
    """Return a matrix for each point of which pairs of devices and each of them alone were measured.

    Args:
        trials: as `raybench.load` returns it.
        workers: the `workers` table of the same folders.
    """
    if not workers.num_rows:
        return ()
    measured = measured_devices(trials, workers)
    alone: dict[tuple[Series, int], list[float]] = defaultdict(list)
    pairs: dict[Series, dict[tuple[int, int], list[Any]]] = defaultdict(lambda: defaultdict(list))
    for key in newest_trials(measured.good, measured.rows_of):
        series, rows_of = measured.good[key]["series"], measured.rows_of[key]
        if len(rows_of) == 1:
            ((device, rows),) = rows_of.items()
            alone[series, device].append(_rate(measured, rows))
        elif len(rows_of) == 2:
            pairs[series][tuple(sorted(rows_of))].append(key)  # type: ignore[index]
    return tuple(
        matrix
        for series, keys in pairs.items()
        if (matrix := _matrix(series, keys, alone, measured, trials, workers)) is not None
    )


def _rate(measured: MeasuredDevices, rows: list[int]) -> float:
    return math.fsum(measured.rates[row] for row in rows)  # over the instances of the device


def _matrix(
    series: Series,
    keys: dict[tuple[int, int], list[Any]],
    alone: dict[tuple[Series, int], list[float]],
    measured: MeasuredDevices,
    trials: pa.Table,
    workers: pa.Table,
) -> PairMatrix | None:
    known = {pair: of for pair, of in keys.items() if all((series, one) in alone for one in pair)}
    sure_at = 1 - FALSE_LOSSES / max(2 * len(known), 1)
    losses = []
    for pair, of_pair in known.items():
        found = []
        for device, other in (pair, pair[::-1]):
            beside = np.array([_rate(measured, measured.rows_of[key][device]) for key in of_pair])
            single = np.array(alone[series, device])
            ratio, sure = _ratio(beside, single, sure_at)
            found.append((device, other, ratio, sure))
        shared = None
        if any(sure and (ratio.value or 1) <= 1 - WORTH for *_, ratio, sure in found):
            shared = _shared(pair, of_pair, measured, trials, workers)
        unstable = any(measured.good[key]["unstable"] for key in of_pair)
        for device, other, ratio, sure in found:
            one, beside_it = measured.devices[device].name, measured.devices[other].name
            losses.append(PairLoss(one, beside_it, ratio, sure, len(of_pair), unstable, shared))
    if not losses:
        return None
    places = sorted({place for pair in known for place in pair})
    names = tuple(measured.devices[place].name for place in places)
    losses.sort(key=lambda loss: (names.index(loss.device), names.index(loss.beside)))
    return PairMatrix(series, names, tuple(losses))


def _ratio(beside: Any, single: Any, sure_at: float) -> tuple[Estimate, bool]:
    """Return the rate beside over that alone, and whether it is surely lower."""
    if min(len(beside), len(single)) < 2:
        return Estimate(float(np.exp(np.log(beside).mean() - np.log(single).mean()))), False
    span = ratio_ci(beside, single)
    wide = ratio_ci(beside, single, sure_at)
    return Estimate(span.value, span.lo, span.hi), wide.hi is not None and wide.hi < 1


def _shared(
    pair: tuple[int, int],
    keys: list[Any],
    measured: MeasuredDevices,
    trials: pa.Table,
    workers: pa.Table,
) -> str | None:
    """Return the link that both use: one NUMA node of one host, and PCIe full while both work."""
    rows = [measured.rows_of[keys[-1]][device][0] for device in pair]
    homes = {(workers["hostname"][row].as_py(), workers["numa_node"][row].as_py()) for row in rows}
    ((host, node), *others) = homes
    if others or host is None or node is None:
        return None
    names = ("run_id", "point_id", "trial")
    wanted = set(keys)
    columns = zip(*(trials[name].to_pylist() for name in names), strict=True)
    (cell, *_) = cells(trials.take([k for k, key in enumerate(columns) if key in wanted]))
    full = [use for use in uses(cell) if use.kind == "link" and use.measured and use.full]
    return f"{full[0].evidence}, both on NUMA node {node} of {host}" if full else None


def _interval(loss: PairLoss) -> str:
    lo, hi = loss.ratio.lo, loss.ratio.hi
    return "" if lo is None or hi is None else f" [{100 * (1 - hi):.1f}, {100 * (1 - lo):.1f}]"
