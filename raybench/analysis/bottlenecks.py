"""What holds a point back, as far as its flags and telemetry show it, and what of the device is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.feeding import FED
from raybench.analysis.resources import RESOURCES, nothing_full, uses, waits_for_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.baselines import Slowest
    from raybench.analysis.cells import Cell

BOUNDS = (
    *("decoding", "host", "copies", "power", "heat", "hardware", "slow_device", "neighbours"),
    *(*RESOURCES, "launches", "kernel_latency"),
)
"""What can hold a point back, the likeliest cause of poor scaling first, then what of the device is
full, or what it waits for where nothing is."""


_NEIGHBOURS = {
    "foreign_process": "another process used the device",
    "foreign_load": "others used the workers' own cores",
    "steal": "other virtual machines took the workers' cores",
}
_SIGNS = frozenset(
    {
        "host_bound", "enqueue_bound", "throttled_power", "throttled_thermal", "throttled_hw",
        "imbalance", *_NEIGHBOURS,
    }
)  # fmt: skip
"""Flags that are a sign of a bound."""


@dataclass(frozen=True)
class Bound:
    """Something that holds a point back.

    Attributes:
        what: one of `BOUNDS`.
        workers: number of workers of the point.
        evidence: one sentence with figures.
    """

    what: str
    workers: int
    evidence: str


def bounds(cell: Cell, base: Cell | None, slowest: Slowest | None) -> tuple[Bound, ...]:
    """Return everything that holds a cell back.

    Args:
        cell: a cell with a number.
        base: the same series at its smallest number of workers; its clock is the reference.
        slowest: the slowest worker, if there are several.
    """
    copies, unfed = _copies(cell), waits_for_input(cell)
    of_device = _of_device(cell, copies is not None or "host_bound" in cell.flags)
    if not (copies or unfed or of_device) and _SIGNS.isdisjoint(cell.flags):
        return ()
    evidence = {
        "decoding": None if unfed is None else _sentence([unfed], ""),
        "host": _host(cell, copies is not None),
        "copies": copies,
        "power": _throttled(
            cell, base, "throttled_power", "throttle_power_frac", "the power limit"
        ),
        "heat": _throttled(cell, base, "throttled_thermal", "throttle_thermal_frac", "heat"),
        "hardware": _throttled(cell, base, "throttled_hw", "throttle_hw_frac", "a hardware brake"),
        "slow_device": _slow_device(cell, slowest),
        "neighbours": _neighbours(cell),
        **of_device,
    }
    workers = cell.workers or 1
    return tuple(Bound(what, workers, text) for what, text in evidence.items() if text is not None)


def _of_device(cell: Cell, waits_for_others: bool) -> dict[str, str]:
    """Return the evidence of what of the device is full; else of what it waits for, if measured.

    A device that waits for copies, the host or arrivals is not full, and its kernels are not the reason.
    """
    known = uses(cell)
    waits = None if waits_for_others else nothing_full(cell, known)
    found = [(use.resource, use.evidence) for use in known if use.full] or (
        [waits] if waits else []
    )
    return {what: _sentence([evidence], "") for what, evidence in found}


def _host(cell: Cell, copies_bind: bool) -> str | None:
    """Idle time that longer copies or missing images explain is not the host's; older rows are flagged for it.

    Nor is the time to submit a batch whose copy takes longer.
    """
    idle, submit, compute = (
        cell.get(name) for name in ("host_idle_frac", "enqueue_ms_median", "compute_ms_median")
    )
    images = cell.get("input_wait_frac") or 0.0
    explained = copies_bind or (images > FED and (idle or 0.0) - images <= FED)
    waits = "host_bound" in cell.flags and not explained
    sooner = submit is not None and submit < _longest_copy_ms(cell)
    if not waits and ("enqueue_bound" not in cell.flags or sooner):
        return None
    parts = []
    if idle is not None:
        parts.append(f"the device had nothing to do for {100 * idle:.0f} % of the time")
    if submit is not None and compute is not None:
        parts.append(f"submitting a batch took {submit:.3g} ms, computing it {compute:.3g} ms")
    return _sentence(parts, "the device waited for the host")


def _copies(cell: Cell) -> str | None:
    """Copies overlap with compute and with each other, so the longest of the three bounds."""
    compute, copy_in = map(cell.get, ("compute_ms_median", "h2d_ms_median"))
    flagged = "copy_bound" in cell.flags
    ms = _longest_copy_ms(cell)
    if compute is None or not ms:
        return _sentence([], "the device waited for copies") if flagged else None
    if not flagged and ms <= compute:
        return None
    way = "in" if ms == copy_in else "out"
    return f"Copying a batch {way} took {ms:.3g} ms, computing it {compute:.3g} ms."


def _longest_copy_ms(cell: Cell) -> float:
    return max(cell.get("h2d_ms_median") or 0.0, cell.get("d2h_ms_median") or 0.0)


def _throttled(cell: Cell, base: Cell | None, flag: str, column: str, cause: str) -> str | None:
    if flag not in cell.flags:
        return None
    share = cell.get(column)
    parts = [] if share is None else [f"{cause} held the clock in {100 * share:.0f} % of samples"]
    clock = cell.get("sm_clock_mhz_mean")
    reference = base.get("sm_clock_mhz_mean") if base is not None and base is not cell else None
    if clock is not None and reference:
        workers = base.workers if base else 1
        parts.append(
            f"the clock was {clock:.0f} MHz, {100 * clock / reference:.0f} % of that of {workers}"
        )
    return _sentence(parts, f"{cause} held the clock")


def _slow_device(cell: Cell, slowest: Slowest | None) -> str | None:
    if "imbalance" not in cell.flags:
        return None
    imbalance = cell.get("imbalance")
    parts = []
    if imbalance is not None:
        parts.append(f"the fastest worker beat the slowest by {100 * imbalance:.1f} %")
    if slowest is not None:
        parts.append(f"the slowest was {slowest.name} at {100 * slowest.share:.1f} % of the mean")
    return _sentence(parts, "one worker was slower than the others")


def _neighbours(cell: Cell) -> str | None:
    parts = [text for flag, text in _NEIGHBOURS.items() if flag in cell.flags]
    return _sentence(parts, "") if parts else None


def _sentence(parts: Sequence[str], otherwise: str) -> str:
    text = "; ".join(parts) or otherwise
    return text[0].upper() + text[1:] + "."
