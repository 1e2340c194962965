"""The slots of a run: which are usable, which are free, and which a trial is given.

Between two starts many waiting trials are tried, and there may be thousands of slots: the answers to
what depends on the kind of device only are kept until something starts, ends or goes away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.planning.slots import pick

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from raybench.planning.device_health import DeviceHealth
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.slots import DeviceSlot


class SlotPool:
    """The slots that a run holds, and those that trials occupy.

    Args:
        slots: all of them, in the order of nodes and numbers.
        health: knows those that were removed.
        isolation: see `SchedulingPolicy`.
        placement: see `slots.pick`.
    """

    def __init__(
        self, slots: Sequence[DeviceSlot], health: DeviceHealth, isolation: str, placement: str
    ) -> None:
        self._all = slots
        self._health = health
        self._isolation = isolation
        self._placement = placement
        self._occupied: set[DeviceSlot] = set()
        self._suitable_by_kind: dict[str, list[DeviceSlot]] = {}
        self._usable_by_kind: dict[str, dict[DeviceSlot, None]] = {}
        self._free_by_kind: dict[str, list[DeviceSlot]] = {}
        self._usable_count = 0

    def take(self, slots: Collection[DeviceSlot]) -> None:
        """Occupy slots for a trial that starts."""
        self._occupied.update(slots)
        self._free_by_kind.clear()

    def give_back(self, slots: Collection[DeviceSlot]) -> None:
        """Free the slots of a trial that has ended."""
        self._occupied.difference_update(slots)
        self._free_by_kind.clear()

    def usable(self, wants: str) -> dict[DeviceSlot, None]:
        """Return the slots of a kind that have not been removed, in order."""
        left = len(self._health.usable)
        if left != self._usable_count:
            self._usable_count = left
            self._usable_by_kind.clear()
            self._free_by_kind.clear()
        if wants not in self._usable_by_kind:
            suitable = (slot for slot in self._health.usable if slot.suits(wants))
            self._usable_by_kind[wants] = dict.fromkeys(suitable)
        return self._usable_by_kind[wants]

    def choose(self, planned: PlannedTrial) -> tuple[DeviceSlot, ...] | None:
        """Choose free slots for a trial, not those where it failed before if others suffice."""
        wants, workers = planned.point.wants, planned.point.workers
        free = self._free(wants)
        if len(free) < workers:
            return None
        allowed = self._allowed(planned)
        if allowed is not None:
            among = set(allowed)
            free = [slot for slot in free if slot in among]
        return pick(free, workers, self._placement)

    def _free(self, wants: str) -> list[DeviceSlot]:
        usable = self.usable(wants)
        if wants not in self._free_by_kind:
            shared = self._isolation == "gpu"
            nodes = set() if shared else {slot.node for slot in self._occupied}
            self._free_by_kind[wants] = [
                slot for slot in usable if slot not in self._occupied and slot.node not in nodes
            ]
        return self._free_by_kind[wants]

    def _allowed(self, planned: PlannedTrial) -> Collection[DeviceSlot] | None:
        """Return the slots that a trial may be given, free or not; None for all of its kind."""
        suspects = self._health.suspects(planned)
        if not (planned.allowed_slots or suspects or planned.devices):
            return None
        usable: Collection[DeviceSlot] = self.usable(planned.point.wants)
        if planned.allowed_slots:
            usable = [slot for slot in usable if slot in planned.allowed_slots]
        if planned.devices:
            suitable = self._suitable(planned.point.wants)
            own = [suitable[device % len(suitable)] for device in planned.devices if suitable]
            usable = own if own and all(slot in usable for slot in own) else usable
        others = [slot for slot in usable if slot not in suspects]
        return others if len(others) >= planned.point.workers else usable

    def _suitable(self, wants: str) -> list[DeviceSlot]:
        """Return all slots of a kind, those that were removed, too."""
        if wants not in self._suitable_by_kind:
            self._suitable_by_kind[wants] = [slot for slot in self._all if slot.suits(wants)]
        return self._suitable_by_kind[wants]
