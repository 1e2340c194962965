"""Lines below the result table on applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.formatting import four_digits, with_half_width
from raybench.report.labels import Naming, workers_label
from raybench.report.terminal.aligned import aligned, share_in_percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.applications import Application, Applications


def of_applications(answer: Applications) -> list[str]:
    """Return a table of what each application is bound by; nothing where no ceiling was measured."""
    points = answer.known
    if not points:
        return []
    naming = Naming([point.series for point in points], without=("new_tokens",))
    several = len({point.workers for point in points}) > 1
    names = [
        naming.title(point.series, workers_label(point.workers) if several else "")
        for point in points
    ]
    return ["Applications, and how near each came to what gemm and copy reached here",
            *_table(names, points), *_undetermined(names, points)]  # fmt: skip


def _table(names: Sequence[str], points: Sequence[Application]) -> Iterator[str]:
    titles = ("application", "items/s", "p50 ms", "arithmetic", "memory", "link", "bound by", "")
    rows = [
        (
            name,
            with_half_width(point.items_per_s),
            "" if point.latency_p50_ms is None else four_digits(point.latency_p50_ms),
            share_in_percent(point.arithmetic_share.value),
            _memory_range(point),
            share_in_percent(point.link_share.value),
            point.bound_by or "",
            "SIMULATED" if point.series.simulated else "",
        )
        for name, point in zip(names, points, strict=True)
    ]
    return aligned(titles, rows, "lrrrrrll")


def _undetermined(names: Sequence[str], points: Sequence[Application]) -> list[str]:
    """Return what would decide, each sentence once with the applications that it is about."""
    open_ones: dict[str, list[str]] = {}
    for name, point in zip(names, points, strict=True):
        if point.decide:
            open_ones.setdefault(point.decide, []).append(name)
    return [f"  not determined: {'; '.join(of)}. {text}" for text, of in open_ones.items()]


def _memory_range(point: Application) -> str:
    """Return the least share of memory, and the most where it is known and more."""
    least, most = point.memory_share.value, point.memory_share_most
    if least is None or most is None or most < 1.05 * least:
        return share_in_percent(least)
    return f"{share_in_percent(least).removesuffix(' %')} - {share_in_percent(most)}"
