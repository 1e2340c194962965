"""The devices that a run holds, each in a Ray placement group, and the workers on them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from raybench.cluster import ray_errors
from raybench.cluster.actor import actor_class
from raybench.cluster.worker_group import RayMember, RayWorkerGroup
from raybench.engines.base import Place
from raybench.errors import Interrupted
from raybench.experiment import ANY
from raybench.planning.slots import DeviceSlot
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from raybench.cluster.nodes import Node
    from raybench.experiment import Point

REMOVE_S = 5.0
"""Longest wait for Ray to take devices back; Ray itself would wait for 60 s and then exit."""


class RayReservation:
    """Device slots held until the end of the run, so that no trial waits for other users of Ray.

    A slot is always the same device: Ray binds the device to the slot's placement group. Safe for
    threads that use different slots.

    Attributes:
        slots: the slots that could be reserved.
        busy: why fewer are held than were asked for; None when all are.
    """

    def __init__(self, groups: Mapping[DeviceSlot, Any], busy: str | None) -> None:
        self.slots = tuple(groups)
        self._places = places(self.slots)
        self.busy = busy
        self._groups = dict(groups)
        self._workers: dict[DeviceSlot, tuple[Any, str]] = {}
        """Actor on each slot and the key under which it is parked; "" while it is in use."""
        self._lock = threading.Lock()
        self._closed = False

    def start_workers(
        self,
        slots: Sequence[DeviceSlot],
        point: Point,
        label: str,
        reuse_key: str,
        timeout_s: float,
    ) -> RayWorkerGroup:
        """Start a worker on each slot, or reuse the one that is parked there.

        Args:
            slots: one for each worker, by rank.
            point: what they will measure.
            label: of point and trial, for Ray's dashboard.
            reuse_key: a parked worker with the same key is reused, any other is stopped; the
                empty key never matches.
            timeout_s: longest wait for their processes.

        Raises:
            PhaseTimeout: when they do not start in time.
            WorkerDied: when a worker's process does not come up.
            NodeDied: when a worker's node is gone; Ray would let it wait for ever.
            Interrupted: after `close`.
        """
        acquired = [
            self._acquire_worker(slot, f"{label} worker {rank}", reuse_key)
            for rank, slot in enumerate(slots)
        ]
        hosts = ray_errors.get_all(
            [actor.host.remote() for actor, _ in acquired],
            timeout_s,
            "start",
            nodes=[slot.node for slot in slots],
        )
        members = [
            RayMember(actor, slot, host)
            for (actor, _), slot, host in zip(acquired, slots, hosts, strict=True)
        ]
        return RayWorkerGroup(members, point, label, all(fresh for _, fresh in acquired))

    def _acquire_worker(self, slot: DeviceSlot, label: str, reuse_key: str) -> tuple[Any, bool]:
        """Return the actor of a worker on the slot, and whether its process is new.

        The parked worker is reused if its key matches; otherwise it is killed and a new one started.
        """
        with self._lock:
            if self._closed:
                raise Interrupted("The run was ended. The same command goes on from here.")
            actor, parked_key = self._workers.pop(slot, (None, ""))
            fresh = actor is None or not reuse_key or parked_key != reuse_key
            if fresh:
                if actor is not None:
                    _kill(actor)
                self._kill_others(slot)
                actor = _start_actor(
                    self._groups[slot.whole], slot, label, self._places[slot.whole]
                )
            self._workers[slot] = (actor, "")
            return actor, fresh

    def _kill_others(self, slot: DeviceSlot) -> None:
        """Stop the workers that were parked on the device when it was shared differently."""
        others = [o for o in self._workers if o.whole == slot.whole and o.parts != slot.parts]
        for other in others:
            _kill(self._workers.pop(other)[0])

    def park(self, slots: Sequence[DeviceSlot], reuse_key: str) -> None:
        """Leave the workers of these slots running for the next attempt with the same key."""
        with self._lock:
            for slot in slots:
                if slot in self._workers:
                    self._workers[slot] = (self._workers[slot][0], reuse_key)

    def stop(self, slots: Sequence[DeviceSlot]) -> None:
        """Stop the workers of these slots, if there are any."""
        with self._lock:
            for slot in slots:
                actor, _ = self._workers.pop(slot, (None, ""))
                if actor is not None:
                    _kill(actor)

    def close(self) -> None:
        """Stop all workers and refuse to start new ones; safe to call more than once."""
        with self._lock:
            self._closed = True
            started = tuple(self._workers)
        self.stop(started)

    def lost_nodes(self, nodes: Sequence[str], wait_s: float) -> list[str]:
        """Return the nodes that Ray reports dead, polling until there is one or the wait is over."""
        return ray_errors.lost_nodes(nodes, wait_s)


@contextlib.contextmanager
def reserve(
    nodes: Sequence[Node], wanted: Mapping[str, int], timeout_s: float, placement: str = "pack"
) -> Iterator[RayReservation]:
    """Hold devices until the end of the `with` block.

    Args:
        nodes: of the cluster.
        wanted: number of devices by kind, as in `Point.wants`; all that exist when there are fewer.
        timeout_s: longest wait for devices that others use; the run goes on without those.
        placement: "pack" reserves on as few nodes as possible, "spread" on as many.
    """
    from ray.util.placement_group import placement_group

    groups = {
        slot: placement_group(
            [{slot.kind.upper(): 1}], bundle_label_selector=[{"ray.io/node-id": slot.node}]
        )
        for slot in _choose(nodes, wanted, placement)
    }
    reservation = None
    try:
        deadline = time.monotonic() + timeout_s
        ready = {
            slot: group
            for slot, group in groups.items()
            if group.wait(max(deadline - time.monotonic(), 0.01))
        }
        reservation = RayReservation(ready, _busy_reason(len(groups) - len(ready), timeout_s))
        yield reservation
    finally:
        if reservation is not None:
            reservation.close()
        _remove(list(groups.values()))


def _choose(nodes: Sequence[Node], wanted: Mapping[str, int], placement: str) -> list[DeviceSlot]:
    """Choose the devices to reserve, those of the nodes with the most devices first."""
    every = [
        DeviceSlot(kind, node.node_id, number, node.hostname, node.accelerator or ANY)
        for kind in ("gpu", "cpu")
        for node in sorted(nodes, key=lambda node: node.devices.get(kind, 0), reverse=True)
        for number in range(node.devices.get(kind, 0))
    ]
    chosen: dict[DeviceSlot, None] = {}
    for kind, count in wanted.items():
        suitable = [slot for slot in every if slot.suits(kind)]
        if placement == "spread":
            suitable.sort(key=lambda slot: slot.number)
        chosen |= dict.fromkeys(suitable[:count])
    return list(chosen)


def places(slots: Iterable[DeviceSlot]) -> dict[DeviceSlot, Place]:
    """Return where each device stands among all of its kind, by names of hosts and then numbers.

    Nodes of one host name, as in a cluster on one machine, stand in the order of their ids.
    """
    ordered = sorted(slots, key=lambda slot: (slot.host, slot.node, slot.number))
    hosts = list(dict.fromkeys(slot.node for slot in ordered))
    seen: Counter[str] = Counter()
    found = {}
    for slot in ordered:
        found[slot] = Place(seen[slot.kind], hosts.index(slot.node))
        seen[slot.kind] += 1
    return found


def _busy_reason(missing: int, timeout_s: float) -> str | None:
    if not missing:
        return None
    return (
        f"{counted(missing, 'device')} did not become free in {timeout_s:.0f} s. "
        "End the other work on the cluster, or raise cluster.start_timeout_s."
    )


def _remove(groups: list[Any]) -> None:
    """Remove placement groups, without waiting long for a cluster that is gone already."""
    from ray.util.placement_group import remove_placement_group

    def remove() -> None:
        with contextlib.suppress(Exception):
            for group in groups:
                remove_placement_group(group)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    thread.join(REMOVE_S)


def _start_actor(group: Any, slot: DeviceSlot, label: str, place: Place) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return (
        actor_class()
        .options(
            name=f"{label}-{time.monotonic_ns()}",
            num_gpus=slot.share if slot.kind == "gpu" else 0,
            num_cpus=slot.share if slot.kind == "cpu" else 0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=0
            ),
        )
        .remote(label, place)
    )


def _kill(actor: Any) -> None:
    import ray

    with contextlib.suppress(Exception):  # the cluster itself may be shutting down
        ray.kill(actor)
