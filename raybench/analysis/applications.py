"""Applications side by side: rate, latency, how near each came to the machine's ceilings, and its bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.bound_by import CeilingShare, bound_by
from raybench.analysis.ceilings import Ceilings, MeasuredCeilings, is_ceiling
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.gaps import without_numbers
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.tables import as_table
from raybench.analysis.traffic import bytes_in, traffic

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from raybench.analysis.ceilings import Ceiling


@dataclass(frozen=True)
class Application:
    """One point of an application; None where unknown.

    Attributes:
        items_per_s: mean over trials, of all devices together.
        interval: see `scaling.ScalingEntry`.
        latency_p50_ms: of a batch, median over trials, as is the other.
        arithmetic_share: of what `gemm` reached in the same precision. Above 1 where an engine computes
            convolutions in fewer operations than are counted.
        memory_share: of what `copy` reached, with the least traffic that a batch needs: its weights,
            its cache of keys and values, inputs and outputs. Above 1 where caches hold a part, or
            where reading alone is faster than reading and writing.
        memory_share_most: the same with all that operators hand on, written and read once each.
        link_share: of what `copy` reached with transfers, in the busier direction; of a GPU only.
        bound_by: parts of the machine, or "not determined".
        evidence: for it, with figures.
        decide: what would decide where it is not determined.
        marks: see `marks.MARKS`; those of the ceilings are in `Applications.ceilings`.
    """

    series: Series
    workers: int | None
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    arithmetic_share: Estimate = UNKNOWN
    memory_share: Estimate = UNKNOWN
    memory_share_most: float | None = None
    link_share: Estimate = UNKNOWN
    bound_by: str | None = None
    evidence: str | None = None
    decide: str | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredCeiling:
    """A point of `gemm` or `copy`, and what it says that a device can.

    Attributes:
        part: arithmetic, memory or link.
        gops_per_s: arithmetic of one device, in 1e9 operations a second; None for the others.
        gb_per_s: bytes of one device, in 1e9 a second; None for arithmetic.
    """

    series: Series
    workers: int | None
    part: str
    gops_per_s: float | None
    gb_per_s: float | None
    trials: int
    verdict: str | None
    marks: tuple[str, ...]

    @property
    def status(self) -> str:
        """What a table of points asks for: a ceiling has a number."""
        return "ok"


@dataclass(frozen=True)
class Applications:
    """The applications of some rows, below the ceilings of their machines.

    Attributes:
        points: one for each point in closed loop that is no ceiling.
        ceilings: that were measured and hold for one of them.
        missing: what could not be said and why, a sentence each.
        measured: every ceiling, by the conditions that it holds for.
    """

    points: tuple[Application, ...]
    ceilings: tuple[MeasuredCeiling, ...]
    missing: tuple[str, ...]
    measured: MeasuredCeilings

    @property
    def known(self) -> tuple[Application, ...]:
        """The points with a number; none where no share of any is known."""
        good = tuple(point for point in self.points if point.status == "ok")
        shares = (share for p in good for share in (p.arithmetic_share, p.memory_share))
        return good if any(share.value is not None for share in shares) else ()

    def as_table(self) -> pa.Table:
        """Return a row for each point."""
        return as_table(Application, self.points)


def applications(trials: pa.Table) -> Applications:
    """Return every application in a `trials` table beside the ceilings that `gemm` and `copy` measured."""
    every = cells(trials)
    measured = MeasuredCeilings(every)
    members = [cell for cell in every if not is_ceiling(cell.series) and not cell.series.is_open]
    points: list[Application] = []
    used: dict[int, Ceiling] = {}
    for cell in members:
        ceilings = measured.beside(cell.series, cell.workers)
        beside = [one for one in (ceilings.arithmetic, ceilings.memory, ceilings.link) if one]
        holds = any(one for one in beside if one.part != "link" or cell.series.transfers)
        points.append(_point(cell, shares_of(cell, ceilings), holds))
        used |= {id(one): one for one in beside if cell.ok}
    held = tuple(
        MeasuredCeiling(
            series=one.cell.series,
            workers=one.cell.workers,
            part=one.part,
            gops_per_s=one.per_s / 1e9 if one.part == "arithmetic" else None,
            gb_per_s=None if one.part == "arithmetic" else one.per_s / 1e9,
            trials=one.cell.trials,
            verdict=one.cell.verdict,
            marks=one.cell.marks,
        )
        for one in used.values()
    )
    refuted = tuple(one.in_words() for one in measured.refuted)
    missing = without_numbers(every) or (*_missing(points, measured), *refuted, *_doubtful(held))
    return Applications(tuple(points), held, missing, measured)


def shares_of(cell: Cell, ceilings: Ceilings) -> tuple[CeilingShare, ...]:
    """Return how near a point came to each ceiling that was measured, as far as its needs are known."""
    if not cell.ok:
        return ()
    found = []
    gflops, batch = cell.get("gflops_per_item"), cell.series.batch_size
    if ceilings.arithmetic is not None and gflops is not None:
        share = ceilings.arithmetic.share(cell, gflops * 1e9)
        found.append(CeilingShare(ceilings.arithmetic, share))
    needed = traffic(cell)
    if ceilings.memory is not None and needed is not None and batch:
        share = ceilings.memory.share(cell, needed.least / batch)
        most = None if needed.most is None else needed.most / batch
        found.append(
            CeilingShare(
                ceilings.memory, share, ceilings.memory.share(cell, most).value, needed.least
            )
        )
    if ceilings.link is not None and cell.series.transfers and batch:
        ways = (bytes_in(cell), (cell.newest.get("output_bytes_per_item") or 0) * batch)
        busier = None if ways[0] is None else max(float(way or 0) for way in ways) / batch
        if busier is not None:
            found.append(CeilingShare(ceilings.link, ceilings.link.share(cell, busier)))
    return tuple(found)


def _point(cell: Cell, shares: Sequence[CeilingShare], measured: bool) -> Application:
    if not cell.ok:
        return Application(
            cell.series, cell.workers, cell.status, cell.reason, cell.trials, marks=cell.marks
        )
    of_part = {one.ceiling.part: one for one in shares}
    memory = of_part.get("memory")
    held = bound_by(cell, shares, measured)
    return Application(
        series=cell.series,
        workers=cell.workers,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.estimate,
        interval=cell.interval,
        latency_p50_ms=cell.get("latency_p50_ms"),
        latency_p99_ms=cell.get("latency_p99_ms"),
        arithmetic_share=_share(of_part.get("arithmetic")),
        memory_share=_share(memory),
        memory_share_most=None if memory is None else memory.most,
        link_share=_share(of_part.get("link")),
        bound_by=held.in_words,
        evidence=held.evidence or None,
        decide=held.decide or None,
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks,
    )


def _share(one: CeilingShare | None) -> Estimate:
    return UNKNOWN if one is None else one.share


def _missing(points: Sequence[Application], measured: MeasuredCeilings) -> tuple[str, ...]:
    good = [point for point in points if point.status == "ok"]
    if not good:
        return ("No application has a number.",)
    sentences = []
    for what, model in (("arithmetic_share", "gemm"), ("memory_share", "copy")):
        lacking = {
            (point.series.precision, point.workers)
            for point in good
            if getattr(point, what).value is None
            and not (model == "copy" and measured.refuted_beside(point.series, point.workers))
        }
        if lacking:
            part = what.removesuffix("_share")
            where = "; ".join(
                f"{precision}, {workers or 'unknown'} at work"
                for precision, workers in sorted(lacking, key=str)
            )
            sentences.append(
                f"No share of {part} for some points ({where}): measure {model} under the same conditions, "
                "or what they need is not known."
            )
    return tuple(sentences)


def _doubtful(ceilings: Sequence[MeasuredCeiling]) -> tuple[str, ...]:
    """Return a sentence on each ceiling that is unstable."""
    return tuple(
        f"No sound ceiling of {one.part}: {one.series.model} in {one.series.precision} is unstable, and so are the "
        "shares of it. Measure it again (rerun=unstable)."
        for one in ceilings
        if one.verdict == "unstable"
    )
