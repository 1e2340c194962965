"""Rooflines: performance over arithmetic intensity, below what memory and arithmetic of a chip allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import Accelerator, arithmetic_unit, find
from raybench.analysis.ceilings import NOTHING_MEASURED, is_ceiling
from raybench.analysis.series import device_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.analysis.ceilings import MeasuredCeilings
    from raybench.analysis.efficiency import Utilization


@dataclass(frozen=True)
class RooflinePoint:
    """One point, of one of its devices.

    Attributes:
        use: the point; its `ops_per_byte` is known.
        performance: TFLOP/s (TOP/s for integers) of one device.
        roof: the most that the chip allows at this intensity, in the same unit; None without a
            printed peak in the point's precision.
    """

    use: Utilization
    performance: float
    roof: float | None


@dataclass(frozen=True)
class Roofline:
    """The points of one kind of device below its ceilings.

    Attributes:
        device: product name.
        chip: name in conf/accelerators.yaml.
        memory_gb_per_s: the most that its memory can.
        ceilings: dense peak by precision of the points, in TFLOP/s or TOP/s.
        points: in the order of the analysis.
        measured: the ceilings are what `gemm` and `copy` reached, for want of a printed peak.
    """

    device: str
    chip: str
    memory_gb_per_s: float
    ceilings: Mapping[str, float]
    points: tuple[RooflinePoint, ...]
    measured: bool = False

    def ridge(self, precision: str) -> float:
        """Return the intensity from which arithmetic, not memory, is the limit, in operations a byte."""
        return self.ceilings[precision] * 1e3 / self.memory_gb_per_s


@dataclass(frozen=True)
class Rooflines:
    """A roofline for each kind of device.

    Attributes:
        rooflines: those that can be drawn.
        missing: why a device has none, a sentence each.
    """

    rooflines: tuple[Roofline, ...]
    missing: tuple[str, ...]


def rooflines(
    uses: Sequence[Utilization], measured: MeasuredCeilings = NOTHING_MEASURED
) -> Rooflines:
    """Return the rooflines of all points with a number, but simulated ones and those that wait for arrivals.

    Args:
        uses: from `analysis.efficiency`.
        measured: ceilings of devices without a printed peak.
    """
    by_device: dict[str, list[Utilization]] = {}
    for use in uses:
        if use.series.simulated or use.waits_for_arrivals:
            continue
        if use.series.device is not None:
            by_device.setdefault(use.series.device, []).append(use)
    drawn, missing = [], []
    for device, members in by_device.items():
        found = _roofline(device, members, measured)
        if isinstance(found, Roofline):
            drawn.append(found)
        else:
            missing.append(f"No roofline of {device_name(device)}: {found}.")
    return Rooflines(tuple(drawn), tuple(missing))


def _roofline(
    device: str, uses: Sequence[Utilization], measured: MeasuredCeilings
) -> Roofline | str:
    """Return the roofline of one kind of device, or why there is none."""
    chip = find(device)
    if chip is None:
        return _below_measured(device, uses, measured)
    bandwidths = [use.memory_peak_gb_per_s for use in uses if _can_be(use.memory_peak_gb_per_s)]
    if not bandwidths:
        return "no row says what its memory can"
    known = [use for use in uses if _can_be(use.ops_per_byte) and _can_be(use.achieved_tflops)]
    ceilings = _ceilings(chip, known)
    if not ceilings:
        return "no row has both its operations and a printed peak in its precision"
    bandwidth = max(bandwidth or 0.0 for bandwidth in bandwidths)
    points = tuple(
        _point(use, ceilings.get(use.series.precision or ""), bandwidth) for use in known
    )
    return Roofline(device, chip.name, bandwidth, ceilings, points)


def _point(use: Utilization, ceiling: float | None, bandwidth: float) -> RooflinePoint:
    """Return a point below its roof, which is unknown without a ceiling in its precision."""
    roof = None if ceiling is None else min(ceiling, (use.ops_per_byte or 0.0) * bandwidth / 1e3)
    return RooflinePoint(use, (use.achieved_tflops or 0.0) / (use.workers or 1), roof)


def _below_measured(
    device: str, uses: Sequence[Utilization], measured: MeasuredCeilings
) -> Roofline | str:
    """Return the roofline below what `gemm` and `copy` reached, of the points that most share.

    Cores share their memory, so that ceilings hold for as many at work as measured them.
    """
    below: dict[float, list[tuple[Utilization, float]]] = {}
    for use in uses:
        ceilings = measured.beside(use.series, use.workers)
        known = _can_be(use.ops_per_byte) and _can_be(use.achieved_tflops)
        if ceilings.memory and ceilings.arithmetic and known and not is_ceiling(use.series):
            bandwidth = ceilings.memory.per_s / 1e9
            below.setdefault(bandwidth, []).append((use, ceilings.arithmetic.per_s / 1e12))
    if not below:
        return "no printed peak in conf/accelerators.yaml, and no gemm and copy beside its points"
    bandwidth, members = max(below.items(), key=lambda one: len(one[1]))
    flat = {use.series.precision or "": ceiling for use, ceiling in members}
    highest = dict(sorted(flat.items(), key=lambda item: (-item[1], item[0])))
    points = tuple(_point(use, ceiling, bandwidth) for use, ceiling in members)
    return Roofline(device, device_name(device), bandwidth, highest, points, measured=True)


def _can_be(value: float | None) -> bool:
    """Return whether a number can be that of a device; damaged rows may hold others."""
    return value is not None and 1e-9 < value < 1e9


def _ceilings(chip: Accelerator, uses: Sequence[Utilization]) -> dict[str, float]:
    """Return the peaks in the precisions of the points, the highest first."""
    names = dict.fromkeys(use.series.precision or "" for use in uses)
    peaks = {name: chip.peaks[name].value for name in names if name in chip.peaks}
    return dict(sorted(peaks.items(), key=lambda item: (-item[1], item[0])))


def ceiling_label(precision: str, value: float) -> str:
    """Return a ceiling in words, e.g. "fp16: 989.5 TFLOP/s"."""
    digits = f"{value:,.6g}" if value >= 1 else f"{value:.3g}"
    return f"{precision}: {digits} {arithmetic_unit(precision)}"
