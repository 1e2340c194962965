"""The workers of an attempt and the devices of a run, as `execute` uses them.

`raybench.cluster` provides both over Ray without importing these protocols;
`tests/helpers/fake_workers.py` provides both without Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from raybench.engines.base import Layer
    from raybench.experiment import Point
    from raybench.measure.arrivals import Arrivals
    from raybench.measure.clock import ClockDrift
    from raybench.measure.prepared import Measurement, Prepared, WorkerHost
    from raybench.measure.running_stream import StreamSnapshot
    from raybench.planning.slots import DeviceSlot


class WorkerMember(Protocol):
    """One worker of a group and where it runs."""

    @property
    def node_id(self) -> str:
        """Return the id of its node, as in its device slot."""
        ...

    @property
    def host(self) -> WorkerHost:
        """Return its host name, process id and niceness."""
        ...


class WorkerStream(Protocol):
    """The streams of all workers of a group, which began at one common instant.

    Every method raises PointError, with the ranks of the workers concerned, when one fails.
    """

    @property
    def start_ns(self) -> int:
        """Return the common start on the driver's `perf_counter_ns`."""
        ...

    def elapsed_s(self) -> float:
        """Return the time since the common start; negative before it."""
        ...

    def wait(self, seconds: float) -> bool:
        """Sleep until a stream ends or the time is over; return whether one has ended."""
        ...

    def snapshot(self, stall_s: float) -> Sequence[StreamSnapshot]:
        """Return what each worker has done since the snapshot before, in whole blocks.

        Raises:
            PhaseTimeout: naming the workers that have not completed a batch for `stall_s`.
        """
        ...

    def finish(self) -> tuple[Sequence[Measurement], Sequence[ClockDrift]]:
        """Halt all streams; return each worker's records, and its clock before and after."""
        ...


class WorkerGroup(Protocol):
    """The workers of one attempt, one a device slot, in the order of their ranks.

    Every method but `release` raises PointError when a worker fails; the group is then lost.
    """

    @property
    def members(self) -> Sequence[WorkerMember]:
        """Return the workers, by rank."""
        ...

    @property
    def fresh(self) -> bool:
        """Return whether every worker's process is new."""
        ...

    def prepare(
        self,
        seed: int,
        timeout_s: float,
        sharers: Mapping[str, int],
        on_step: Callable[[str, str], object] | None = None,
    ) -> Sequence[Prepared]:
        """Prepare all workers for the point, at the same time.

        Args:
            seed: of the synthetic batches.
            timeout_s: longest time that it may take.
            sharers: how many workers share the memory of a node, by its id.
            on_step: called about once a second with what a worker that is not done is doing,
                and how far it is where that is known.
        """
        ...

    def build(
        self,
        seed: int,
        timeout_s: float,
        nodes: Iterable[str],
        on_step: Callable[[str, str], object] | None = None,
    ) -> None:
        """Let the only worker build graph and plan, and copy the plan to other nodes.

        Args:
            seed: of the synthetic batches.
            timeout_s: longest time that either may take.
            nodes: ids of nodes that can use the same plan.
            on_step: called about once a second with what the worker is doing, and how far it is
                where that is known.
        """
        ...

    def start_stream(
        self, longest_s: float, block_ns: int, arrivals: Arrivals | None = None
    ) -> WorkerStream:
        """Measure every worker's clock and start all streams at one instant.

        Args:
            longest_s: after this a stream ends by itself; a backstop.
            block_ns: length of a block.
            arrivals: at all workers in open loop; None for a closed loop.
        """
        ...

    def layers(self, timeout_s: float) -> Sequence[Layer]:
        """Return the layers of the first worker's model, timed in a run of their own."""
        ...

    def release(self) -> tuple[str, ...]:
        """Let the engines free their devices before the processes end; never raises PointError.

        Returns:
            What could not be put back as it was, a sentence each.
        """
        ...


class Reservation(Protocol):
    """The device slots that a run holds. Safe for threads that use different slots."""

    @property
    def slots(self) -> Sequence[DeviceSlot]:
        """Return the slots that could be reserved."""
        ...

    @property
    def busy(self) -> str | None:
        """Return why fewer slots are held than were asked for; None when all are."""
        ...

    def start_workers(
        self,
        slots: Sequence[DeviceSlot],
        point: Point,
        label: str,
        reuse_key: str,
        timeout_s: float,
    ) -> WorkerGroup:
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
            NodeDied: when a worker's node is gone.
            Interrupted: after `close`.
        """
        ...

    def park(self, slots: Sequence[DeviceSlot], reuse_key: str) -> None:
        """Leave the workers of these slots running for the next attempt with the same key."""
        ...

    def stop(self, slots: Sequence[DeviceSlot]) -> None:
        """Stop the workers of these slots, if there are any."""
        ...

    def close(self) -> None:
        """Stop all workers and refuse to start new ones; safe to call more than once."""
        ...

    def lost_nodes(self, nodes: Sequence[str], wait_s: float) -> Sequence[str]:
        """Return the nodes that are dead, polling until there is one or the wait is over."""
        ...
