"""Attempts: planned trials that were started on device slots, and the outcomes they lead to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
        slots: a device slot for each device of the point.
        number: 1 for the first attempt at the trial.
    """

    planned: PlannedTrial
    slots: tuple[DeviceSlot, ...]
    number: int

    @property
    def instances(self) -> int:
        """Return how many workers share each device; builders do so by their slots alone."""
        return 1 if self.planned.purpose == "prepare" else self.planned.point.instances

    @cached_property
    def worker_slots(self) -> tuple[DeviceSlot, ...]:
        """Return a slot for each worker, by rank: those of one device follow one another."""
        if self.instances == 1:
            return self.slots
        return tuple(part for slot in self.slots for part in slot.divided(self.instances))

    def device_of(self, rank: int) -> DeviceSlot:
        """Return the slot of the device that a worker has, or shares with others."""
        return self.slots[rank // self.instances]


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
