"""Device slots, and which of the free ones the workers of a trial are given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from typing_extensions import override

from raybench.experiment import ANY

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class DeviceSlot:
    """One device that a worker can be given: the `number`-th of its kind on a node.

    Attributes:
        kind: "gpu" or "cpu".
        node: id of its node.
        number: among the devices of its kind on the node, from 0.
        host: name of the node, for messages.
        accelerator: type of the node's GPUs; "any" where the cluster does not say.
        part: which of the workers that share the device, from 0: instances, or builders of plans.
        parts: how many they are.
    """

    kind: str
    node: str
    number: int
    host: str = ""
    accelerator: str = ANY
    part: int = 0
    parts: int = 1

    @property
    def whole(self) -> DeviceSlot:
        """Return the slot of the whole device."""
        return replace(self, part=0, parts=1)

    def divided(self, parts: int) -> tuple[DeviceSlot, ...]:
        """Return slots for so many workers that share the device."""
        return tuple(replace(self, part=part, parts=parts) for part in range(parts))

    def suits(self, wants: str) -> bool:
        """Return whether it is a device such as `Point.wants` asks for."""
        return wants in (self.kind, f"{self.kind}/{self.accelerator}")

    @property
    def device(self) -> str:
        """Return the name of the device on its node: "GPU 0", "core 1"."""
        name = {"gpu": "GPU", "cpu": "core"}.get(self.kind, self.kind)
        return f"{name} {self.number}"

    @property
    def place(self) -> str:
        """Return the name of the device and, where several workers share it, of the part."""
        return self.device if self.parts == 1 else f"{self.device}, instance {self.part}"

    @property
    def share(self) -> float:
        """Return the part of the device that the slot stands for, as Ray counts: in 1/10,000."""
        return 1.0 if self.parts == 1 else (10_000 // self.parts) / 10_000

    @override
    def __str__(self) -> str:
        return f"{self.device} of {self.host or self.node}"


def pick(
    free: Sequence[DeviceSlot], workers: int, placement: str = "pack"
) -> tuple[DeviceSlot, ...] | None:
    """Choose slots for the workers of a trial; None when there are too few.

    Args:
        free: slots to choose from.
        workers: how many are needed.
        placement: "pack" uses as few nodes as possible: the fullest node that can hold all
            workers, else the emptiest nodes first. "spread" takes one slot of each node in turn.

    Returns:
        The slots in the order of nodes and numbers.
    """
    nodes: dict[str, list[DeviceSlot]] = {}
    for slot in sorted(free, key=_place):
        nodes.setdefault(slot.node, []).append(slot)
    if sum(map(len, nodes.values())) < workers:
        return None
    if placement == "spread":
        turns = sorted(free, key=lambda slot: (slot.part, nodes[slot.node].index(slot), slot.node))
        return tuple(sorted(turns[:workers], key=_place))
    sufficient = [slots for slots in nodes.values() if len(slots) >= workers]
    if sufficient:
        return tuple(min(sufficient, key=len)[:workers])
    emptiest_first = sorted(nodes.values(), key=len, reverse=True)
    return tuple(sorted([slot for slots in emptiest_first for slot in slots][:workers], key=_place))


def _place(slot: DeviceSlot) -> tuple[int, str, int]:
    """Return the key of the order of slots; those who share a device spread over all first."""
    return slot.part, slot.node, slot.number


def describe(wants: str, count: int) -> str:
    """Return a number of the devices that `Point.wants` names: "1 GPU", "2 GPUs of type H100"."""
    kind, _, accelerator = wants.partition("/")
    name = {"gpu": "GPU", "cpu": "CPU core"}[kind] + "s" * (count != 1)
    return f"{count} {name} of type {accelerator}" if accelerator else f"{count} {name}"
