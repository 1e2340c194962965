"""Seats: the devices that a run holds, each in a placement group of its own, and who sits there."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from raybench.cluster.actor import actor_class
from raybench.errors import Interrupted
from raybench.experiment import ANY
from raybench.planning.slots import DeviceSlot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from raybench.cluster.nodes import Node

LET_GO_S = 5.0
"""Longest wait for a cluster to take devices back; Ray itself would wait for 60 s and then exit."""


class Seats:
    """Devices held until the end of the run, so that a point waits for nobody.

    A seat is always the same device: Ray binds it to the placement group. Safe for threads that
    work on different seats.

    Attributes:
        held: the devices that could be had.
        busy: why some could not be had; None when there are as many as were asked for.
    """

    def __init__(self, groups: Mapping[DeviceSlot, Any], busy: str | None) -> None:
        self.held = tuple(groups)
        self.busy = busy
        self._groups = dict(groups)
        self._sitting: dict[DeviceSlot, tuple[Any, str]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def take(self, seat: DeviceSlot, label: str, purpose: str) -> tuple[Any, bool]:
        """A worker on the seat, and whether its process is new.

        Whoever sits there stays if left there for the same purpose, and is ended otherwise.

        Raises:
            Interrupted: after `close`.
        """
        with self._lock:
            if self._closed:
                raise Interrupted("The run was ended. The same command goes on from here.")
            sitting = self._sitting.pop(seat, None)
            kept = sitting is not None and sitting[1] == purpose
            if sitting is not None and not kept:
                _end(sitting[0])
            actor = sitting[0] if sitting and kept else _start(self._groups[seat], seat.kind, label)
            self._sitting[seat] = (actor, "")
            return actor, not kept

    def keep(self, seat: DeviceSlot, purpose: str) -> None:
        """Leave the worker on the seat for the next point of the same purpose."""
        with self._lock:
            if seat in self._sitting:
                self._sitting[seat] = (self._sitting[seat][0], purpose)

    def clear(self, seats: tuple[DeviceSlot, ...]) -> None:
        """End whoever sits on these seats."""
        with self._lock:
            for seat in seats:
                sitting = self._sitting.pop(seat, None)
                if sitting is not None:
                    _end(sitting[0])

    def close(self) -> None:
        """End everybody; nobody can sit down any more."""
        with self._lock:
            self._closed = True
        self.clear(self.held)


@contextlib.contextmanager
def hold(
    nodes: tuple[Node, ...], wanted: Mapping[str, int], timeout_s: float, placement: str = "pack"
) -> Iterator[Seats]:
    """Hold devices; they are freed at the end.

    Args:
        nodes: of the cluster.
        wanted: devices of each kind, as `Point.wants` has it; all that there are when there are
            fewer.
        placement: "pack" holds devices of as few nodes as possible, "spread" of as many.
        timeout_s: longest wait for devices that others use; those are then done without.
    """
    from ray.util.placement_group import placement_group

    groups = {
        seat: placement_group(
            [{seat.kind.upper(): 1}], bundle_label_selector=[{"ray.io/node-id": seat.node}]
        )
        for seat in _chosen(nodes, wanted, placement)
    }
    seats = None
    try:
        deadline = time.monotonic() + timeout_s
        ready = {
            seat: group
            for seat, group in groups.items()
            if group.wait(max(deadline - time.monotonic(), 0.01))
        }
        seats = Seats(ready, _complaint(len(groups) - len(ready), timeout_s))
        yield seats
    finally:
        if seats is not None:
            seats.close()
        _let_go(list(groups.values()))


def _let_go(groups: list[Any]) -> None:
    """Remove placement groups; a cluster that is gone already is not waited for."""
    from ray.util.placement_group import remove_placement_group

    def remove() -> None:
        with contextlib.suppress(Exception):
            for group in groups:
                remove_placement_group(group)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    thread.join(LET_GO_S)


def _complaint(missing: int, timeout_s: float) -> str | None:
    if not missing:
        return None
    return (
        f"{missing} devices did not become free in {timeout_s:.0f} s. "
        "End the other work on the cluster, or raise cluster.start_timeout_s."
    )


def _chosen(nodes: tuple[Node, ...], wanted: Mapping[str, int], placement: str) -> list[DeviceSlot]:
    chosen: dict[DeviceSlot, None] = {}
    for wants, count in wanted.items():
        every = [
            DeviceSlot(kind, node.node_id, number, node.hostname, node.accelerator or ANY)
            for kind in ("gpu", "cpu")
            for node in sorted(nodes, key=lambda node: node.devices.get(kind, 0), reverse=True)
            for number in range(node.devices.get(kind, 0))
        ]
        suited = [seat for seat in every if seat.suits(wants)]
        if placement == "spread":
            suited.sort(key=lambda seat: seat.number)
        chosen |= dict.fromkeys(suited[:count])
    return list(chosen)


def _start(group: Any, kind: str, label: str) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return (
        actor_class()
        .options(
            name=f"{label}-{time.monotonic_ns()}",
            num_gpus=1 if kind == "gpu" else 0,
            num_cpus=1 if kind == "cpu" else 0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=0
            ),
        )
        .remote(label)
    )


def _end(actor: Any) -> None:
    import ray

    with contextlib.suppress(Exception):  # the cluster itself may be going
        ray.kill(actor)
