"""Attempts: planned trials that were started on device slots, and the outcomes they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.errors import PointError
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.slots import DeviceSlot


@dataclass(frozen=True)
class Attempt:
    """A started trial.

    Attributes:
        planned: the trial.
        slots: a device slot for each worker, by rank.
        number: 1 for the first attempt at the trial.
    """

    planned: PlannedTrial
    slots: tuple[DeviceSlot, ...]
    number: int


@dataclass(frozen=True)
class Outcome:
    """The final result of a planned trial, to be written as a row.

    Attributes:
        planned: the trial.
        error: why it gave no number; None when it was measured.
        attempts: how often it was started; 0 when it was not tried.
        note: further text for the row.
    """

    planned: PlannedTrial
    error: PointError | None
    attempts: int
    note: str | None = None
