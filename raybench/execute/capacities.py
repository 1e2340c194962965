"""Closed-loop rates that loads are given as shares of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.execute.recorder import FinishedAttempt
    from raybench.planning.plan import PlannedTrial


class Capacities:
    """Knows the closed-loop rate of the points whose load is a share of it.

    It is that of the first trial, for all trials of the share: they offer the same rate.

    Args:
        stored: items/s of trials in the store, by point id and trial.
    """

    def __init__(self, stored: Mapping[tuple[str, int], float]) -> None:
        self._items_per_s = dict(stored)

    def note(self, finished: FinishedAttempt) -> None:
        """Note the rate of a trial that has been measured."""
        rate = finished.tables.trial.get("items_per_s")
        if finished.error is None and rate is not None:
            self._items_per_s[finished.attempt.planned.key] = rate

    def of(self, planned: PlannedTrial) -> float | None:
        """Return the rate that the load of a trial is a share of; None if there is none."""
        return self._items_per_s.get((planned.point.closed.id, 0))
