"""Throughput against latency: the points that no other beats in both."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cells import cells
from raybench.analysis.estimate import Estimate  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.series import Series, without
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from raybench.analysis.cells import Cell

FREE = ("precision", "batch_size", "inflight", "instances", "engine_options")
"""Factors among which a front chooses; all others are the same along it."""
_PERCENTILES = ("latency_p99_ms", "latency_p90_ms", "latency_p50_ms")
LEAST = 3
"""Points from which there is something to choose."""


@dataclass(frozen=True)
class Choice:
    """One way to run a model, with what it gives and what it costs.

    Attributes:
        items_per_s: mean over trials.
        latency_ms: latency of a batch at the front's percentile, median over trials.
        best: whether no other point has as much throughput at no more latency.
    """

    series: Series
    workers: int | None
    items_per_s: Estimate
    latency_ms: float
    best: bool
    trials: int
    interval: str | None
    verdict: str | None
    marks: tuple[str, ...]

    @property
    def status(self) -> str:
        """What a table of points asks for: a choice has a number."""
        return "ok"


@dataclass(frozen=True)
class Front:
    """The choices of a model on a number of devices of a kind.

    Attributes:
        series: with None for the factors in `FREE`.
        percentile: column of the latency: the highest percentile that every choice has.
        choices: by latency.
    """

    series: Series
    workers: int | None
    percentile: str
    choices: tuple[Choice, ...]

    @property
    def best(self) -> tuple[Choice, ...]:
        """The choices that no other beats, by latency."""
        return tuple(choice for choice in self.choices if choice.best)

    def as_table(self) -> pa.Table:
        """Return a row for each choice."""
        return as_table(Choice, self.choices)


def fronts(trials: pa.Table) -> tuple[Front, ...]:
    """Return the fronts of all models and devices on which there is a choice.

    Only closed-loop rows count: in open loop the rate is what was asked for.
    """
    groups: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    for cell in cells(trials):
        if cell.ok and not cell.series.is_open:
            groups[without(cell.series, *FREE), cell.workers].append(cell)
    found = (_front(series, workers, group) for (series, workers), group in groups.items())
    return tuple(front for front in found if front is not None)


def _front(series: Series, workers: int | None, group: Sequence[Cell]) -> Front | None:
    """Return the front of some cells; None without a latency that all of `LEAST` of them have."""
    if len(group) < LEAST:
        return None
    percentile = next(
        (name for name in _PERCENTILES if all(cell.get(name) is not None for cell in group)), None
    )
    if percentile is None:
        return None
    ordered = sorted(group, key=lambda cell: (cell.get(percentile), -(cell.mean or 0.0)))
    most, choices = 0.0, []
    for cell in ordered:
        rate = cell.mean or 0.0
        choices.append(
            Choice(cell.series, cell.workers, cell.estimate, cell.get(percentile) or 0.0, rate > most,
                   cell.trials, cell.interval, cell.verdict, cell.marks)
        )  # fmt: skip
        most = max(most, rate)
    return Front(series, workers, percentile, tuple(choices))
