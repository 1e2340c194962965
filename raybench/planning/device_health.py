"""Which device slots can still be used: dead nodes and faulty devices are removed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from raybench.errors import NodeDied
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.errors import PointError
    from raybench.planning.attempts import Attempt
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.slots import DeviceSlot

REMOVED_AFTER = 2
"""A device is removed after so many failures in a row of trials that then ran elsewhere."""


class DeviceHealth:
    """The usable slots of a run.

    A failure alone does not say whether the trial or the device is at fault. The device is blamed
    when the same trial then runs on other devices.

    Args:
        slots: that the run holds.

    Attributes:
        usable: slots that have not been removed.
        removed: why slots were removed, a sentence each.
    """

    def __init__(self, slots: Iterable[DeviceSlot]) -> None:
        self.usable = list(slots)
        self.removed: list[str] = []
        self._suspects: dict[tuple[str, int, str], set[DeviceSlot]] = {}
        self._failures: Counter[DeviceSlot] = Counter()

    def suspects(self, planned: PlannedTrial) -> set[DeviceSlot]:
        """Return the slots on which earlier attempts at a trial failed."""
        return self._suspects.get(planned.attempt_key, set())

    def record(self, attempt: Attempt, error: PointError | None) -> None:
        """Learn from the end of an attempt."""
        key = attempt.planned.attempt_key
        if isinstance(error, NodeDied):
            for rank in error.ranks:
                self._remove_node(attempt.device_of(rank).node)
        elif error is None:
            for slot in attempt.slots:
                self._failures[slot] = 0
            for slot in self._suspects.pop(key, set()) - set(attempt.slots):
                self._blame(slot)
        elif error.retried:
            failed = {attempt.device_of(rank) for rank in error.ranks}
            self._suspects.setdefault(key, set()).update(failed)

    def _blame(self, slot: DeviceSlot) -> None:
        self._failures[slot] += 1
        if self._failures[slot] == REMOVED_AFTER and slot in self.usable:
            self._remove([slot], f"{slot} was set aside after {REMOVED_AFTER} failures")

    def _remove_node(self, node: str) -> None:
        lost = [slot for slot in self.usable if slot.node == node]
        if lost:
            self._remove(
                lost, f"node {lost[0].host or node} with {counted(len(lost), 'device')} went away"
            )

    def _remove(self, slots: Sequence[DeviceSlot], reason: str) -> None:
        self.removed.append(reason)
        self.usable = [slot for slot in self.usable if slot not in slots]
