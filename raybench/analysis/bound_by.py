"""What an application is bound by: what telemetry shows, and how near it came to measured ceilings.

A part is named where the evidence agrees. Otherwise the answer is that it is not determined, with what
would decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.bottlenecks import bounds
from raybench.analysis.resources import RESOURCES, uses
from raybench.analysis.traffic import CACHED_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.ceilings import Ceiling
    from raybench.analysis.cells import Cell
    from raybench.analysis.estimate import Estimate

NEAR = 0.75
"""Share of a ceiling from which a part counts as full: real networks rarely get nearer to `gemm`."""

_PARTS = {
    **dict.fromkeys(RESOURCES, "arithmetic"),
    "memory": "memory",
    **dict.fromkeys(("copies", "pcie_in", "pcie_out"), "link"),
    **{name: name for name in ("decoding", "host", "power", "heat", "hardware", "launches")},
    "kernel_latency": "kernel latency",
}
"""Part of the machine behind each bound that telemetry shows; what disturbs a measurement is none."""


@dataclass(frozen=True)
class CeilingShare:
    """How near a point came to one ceiling.

    Attributes:
        ceiling: as `gemm` or `copy` measured it.
        share: of it; of memory with the least traffic that a batch needs.
        most: the share of memory with all that operators hand on; None where it is the same or unknown.
        batch_bytes: least traffic of a batch; None for other parts.
    """

    ceiling: Ceiling
    share: Estimate
    most: float | None = None
    batch_bytes: float | None = None

    @property
    def near(self) -> bool:
        """Whether the share surely counts as full."""
        lowest = self.share.value if self.share.lo is None else self.share.lo
        return lowest is not None and lowest >= NEAR

    @property
    def may_be_near(self) -> bool:
        """Whether the interval reaches what counts as full."""
        highest = self.share.value if self.share.hi is None else self.share.hi
        return highest is not None and highest >= NEAR

    def in_words(self) -> str:
        """Return the share with its ceiling."""
        share = f"{100 * (self.share.value or 0.0):.3g}"
        if self.most is not None:
            share += f" to {100 * self.most:.3g}"
        more = (self.share.value or 0.0) > 1 and self.ceiling.part == "memory"
        why = " (reading alone is faster, or caches hold a part)" if more else ""
        return f"{self.ceiling.part} at {share} % of {self.ceiling.in_words()}{why}"


@dataclass(frozen=True)
class BoundBy:
    """What holds an application back, as far as the rows show it.

    Attributes:
        parts: of the machine, e.g. ("memory",); empty if not determined.
        evidence: sentences with figures.
        decide: what would decide, a sentence; empty where it is determined.
    """

    parts: tuple[str, ...]
    evidence: str
    decide: str = ""

    @property
    def in_words(self) -> str:
        """The parts, or that they are not determined."""
        return " and ".join(self.parts) or "not determined"


def bound_by(cell: Cell, shares: Sequence[CeilingShare], measured: bool) -> BoundBy:
    """Return what holds a point with a number back.

    Args:
        cell: in closed loop.
        shares: of the ceilings that hold for it, as far as what it needs is known.
        measured: whether any ceiling holds for it.
    """
    seen: dict[str, list[str]] = {}
    for bound in bounds(cell, None, None):
        if bound.what in _PARTS:
            seen.setdefault(_PARTS[bound.what], []).append(bound.evidence)
    doubts = []
    for one in shares:
        if one.near and (doubt := _doubt(cell, one)):
            doubts.append(doubt)
        elif one.near:
            seen.setdefault(one.ceiling.part, [])
    known = [one.in_words() for one in shares if one.share.value is not None]
    shown = [text for texts in seen.values() for text in texts]
    evidence = " ".join((*shown, *([_sentence("; ".join(known))] if known else [])))
    if seen:
        return BoundBy(tuple(seen), evidence)
    if measured and not known:
        return BoundBy(
            (), evidence, "Its multiply-accumulates and its traffic would: rows lack them."
        )
    return BoundBy((), evidence, _what_decides(cell, shares, doubts))


def _doubt(cell: Cell, one: CeilingShare) -> str:
    """Return why a share that looks full is none, in a sentence; empty without a reason."""
    part = one.ceiling.part
    counted = [use for use in uses(cell) if use.measured and _PARTS[use.resource] == part]
    if counted and not any(use.full for use in counted):
        return f"Counters say otherwise: {counted[0].evidence}."
    if part == "memory" and (one.batch_bytes or 0.0) < CACHED_BYTES:
        return (
            f"A batch needs {(one.batch_bytes or 0.0) / 1e6:.3g} MB, which caches may hold: a larger "
            "batch or context decides."
        )
    return ""


def _what_decides(cell: Cell, shares: Sequence[CeilingShare], doubts: Sequence[str]) -> str:
    """Return what would show by what a point is bound for which nothing is surely full."""
    if not any(one.share.value is not None for one in shares):
        return "Measure gemm and copy beside it, as experiment=applications does."
    if doubts:
        return " ".join(doubts)
    may_be = [one for one in shares if one.may_be_near]
    if may_be:
        lo, hi = (100 * (end or 0.0) for end in may_be[0].share[1:])
        return (
            f"More trials, or a quieter machine: the interval of {may_be[0].ceiling.part}, {lo:.0f} to {hi:.0f} %, "
            f"lies on both sides of {100 * NEAR:.0f} % of its ceiling."
        )
    known = {one.ceiling.part for one in shares if one.share.value is not None}
    for part, model in (("arithmetic", "gemm"), ("memory", "copy")):
        if part not in known:
            return f"Its share of {part} would, and is not known: measure {model} beside it, with another engine if it was no ceiling."
    counted = any(use.measured for use in uses(cell))
    if not counted and any((one.most or 0.0) >= NEAR for one in shares):
        return "How much of what layers hand on reaches memory decides: counters of its traffic."
    if cell.newest.get("device_kind") == "gpu":
        return "Counters of the GPU (NVML GPM, from Hopper on) or a larger batch decide."
    return "The time of each layer decides (results.layers=true): nothing is near its ceiling."


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
