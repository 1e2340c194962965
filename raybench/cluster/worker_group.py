"""The workers of one attempt as Ray actors: prepare, stream, snapshots, measurements."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.cluster import crashes
from raybench.cluster.actor import point_files, store_built
from raybench.cluster.load_together import load_together
from raybench.cluster.ray_errors import get_all, translate, with_ranks
from raybench.errors import PhaseTimeout, PointError
from raybench.measure import clock
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from raybench.engines.base import Layer
    from raybench.experiment import Point
    from raybench.measure.arrivals import Arrivals
    from raybench.measure.clock import Clock, ClockDrift
    from raybench.measure.prepared import Measurement, Prepared, WorkerHost
    from raybench.measure.running_stream import StreamSnapshot
    from raybench.planning.slots import DeviceSlot

PINGS = 20
"""Round trips to measure a clock's offset with; the shortest counts."""
CALL_S = 30.0
"""Deadline of a call that should return at once."""
FINISH_S = CALL_S + 10.0
"""Deadline for the streams' measurements once they are halted, unless a batch takes longer."""
LEAD_NS = 100_000_000
"""Shortest time from the order to start until the streams start."""
LEAD_ROUND_TRIPS = 20
"""The same in round trips to the slowest worker, where that is longer."""


@dataclass(frozen=True)
class RayMember:
    """One worker of a group and where it runs.

    Attributes:
        actor: handle of its actor.
        slot: its device.
        host: its host name, process id and niceness.
    """

    actor: Any
    slot: DeviceSlot
    host: WorkerHost

    @property
    def node_id(self) -> str:
        """Return the id of its node."""
        return self.slot.node


class RayWorkerGroup:
    """The workers of one attempt, one per device slot, in the order of their ranks.

    Every method but `release` raises PointError when a worker fails; the group is then lost.

    Attributes:
        members: the workers, by rank.
        fresh: whether every worker's process is new.
    """

    def __init__(self, members: Sequence[RayMember], point: Point, label: str, fresh: bool) -> None:
        self.members = members
        self.fresh = fresh
        self._point = point
        self._label = label

    def prepare(
        self,
        seed: int,
        timeout_s: float,
        sharers: Mapping[str, int],
        on_step: Callable[[str, str], object] | None = None,
    ) -> list[Prepared]:
        """Prepare all workers for the point, at the same time.

        Args:
            seed: of the synthetic batches.
            timeout_s: longest time that it may take.
            sharers: how many workers share the memory of a node, by its id.
            on_step: called about once a second with what a worker that is not done is doing,
                and how far it is where that is known.
        """
        files = point_files(self._point)
        calls = [
            member.actor.prepare.options(name=f"{self._label}/prepare").remote(
                self._point, rank, member.slot.number, seed, sharers[member.node_id], files
            )
            for rank, member in enumerate(self.members)
        ]
        with crashes.named(self.members, self._point):
            if self._point.measure.page_cache != "as_is":
                load_together(self.members, calls, self._point.measure.page_cache, timeout_s)
            return get_all(calls, timeout_s, "prepare", while_waiting=self._asking(on_step))

    def _asking(self, on_step: Callable[[str, str], object] | None) -> StepQuestions | None:
        return None if on_step is None else StepQuestions(self.members, on_step)

    def build(
        self,
        seed: int,
        timeout_s: float,
        nodes: Iterable[str],
        on_step: Callable[[str, str], object] | None = None,
    ) -> None:
        """Let the only worker build graph and plan, and copy the plan to other nodes.

        A node that cannot store the plan will build its own.

        Args:
            seed: of the synthetic batches.
            timeout_s: longest time that either may take.
            nodes: ids of nodes that can use the same plan.
            on_step: called about once a second with what the worker is doing, and how far it is
                where that is known.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        (member,) = self.members
        call = member.actor.build_plan.options(name=f"{self._label}/build").remote(
            self._point, member.slot.number, seed, point_files(self._point)
        )
        with crashes.named(self.members, self._point):
            asking = self._asking(on_step)
            (manifest,) = get_all([call], timeout_s, "prepare", while_waiting=asking)
        others = set(nodes) - {member.node_id} if manifest else set()
        if not others:
            return
        bundle = [member.actor.pack.options(name=f"{self._label}/pack").remote(list(manifest))]
        store = ray.remote(num_cpus=0, max_retries=0)(store_built)
        calls = [
            store.options(
                name=f"{self._label}/store",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, False),
            ).remote(manifest, bundle)
            for node in sorted(others)
        ]
        ray.wait(calls, num_returns=len(calls), timeout=timeout_s)

    def start_stream(
        self, longest_s: float, block_ns: int, arrivals: Arrivals | None = None
    ) -> RayWorkerStream:
        """Measure every worker's clock and start all streams at one instant.

        Args:
            longest_s: after this a stream ends by itself; a backstop.
            block_ns: length of a block.
            arrivals: at all workers in open loop; None for a closed loop.
        """
        clocks = measure_clocks(self.members)
        offsets_ns = [each.offset_ns for each in clocks]
        tickets = ""
        if arrivals is not None and arrivals.shared:  # on one host, whose processes share its clock
            offsets_ns = [min(clocks, key=lambda each: each.round_trip_ns).offset_ns] * len(clocks)
            create = self.members[0].actor.create_tickets.remote()
            tickets = get_all([create], CALL_S, "start", (0,))[0]
        lead_ns = max(LEAD_NS, LEAD_ROUND_TRIPS * max(each.round_trip_ns for each in clocks))
        start_ns = time.perf_counter_ns() + lead_ns
        calls = []
        for rank, (member, offset_ns) in enumerate(zip(self.members, offsets_ns, strict=True)):
            own = () if arrivals is None else (arrivals.of_worker(rank, tickets),)
            own_start_ns = start_ns + offset_ns
            calls.append(
                member.actor.stream.options(name=f"{self._label}/measure").remote(
                    own_start_ns, own_start_ns + int(longest_s * 1e9), block_ns, *own
                )
            )
        return RayWorkerStream(self.members, calls, clocks, start_ns, self._point)

    def layers(self, timeout_s: float) -> tuple[Layer, ...]:
        """Return the layers of the first worker's model, timed in a run of their own."""
        call = self.members[0].actor.layers.options(name=f"{self._label}/layers").remote()
        with crashes.named(self.members, self._point):
            timed: tuple[Layer, ...] = get_all([call], timeout_s, "layers")[0]
        return timed

    def release(self) -> tuple[str, ...]:
        """Let the engines free their devices before the processes end; never raises PointError.

        Returns:
            What could not be put back as it was, a sentence each.
        """
        said: list[tuple[str, ...]] = []
        with contextlib.suppress(PointError):
            calls = [member.actor.close.remote() for member in self.members]
            said = get_all(calls, CALL_S, "close")
        return tuple(sentence for each in said for sentence in each)


class StepQuestions:
    """Asks a worker that is not done what it is doing, without waiting for the answer.

    Args:
        members: the workers, by rank.
        on_step: called with each answer.
    """

    def __init__(self, members: Sequence[RayMember], on_step: Callable[[str, str], object]) -> None:
        self._members = members
        self._on_step = on_step
        self._asked: Any = None

    def __call__(self, late: Sequence[int]) -> None:
        """Pass on the answer to the question before, if it has come, and ask again."""
        import ray

        if self._asked is None:
            self._asked = self._members[late[0]].actor.doing.remote()
        with contextlib.suppress(Exception):  # its end is reported by the call that waits
            answered, _ = ray.wait([self._asked], timeout=0)
            if answered:
                self._asked = None
                self._on_step(*ray.get(answered[0]))


class RayWorkerStream:
    """The streams of all workers of a group, which began at one common instant.

    Every method raises PointError, with the ranks of the workers concerned, when one fails.

    Args:
        members: the workers, by rank.
        calls: references to their streams' measurements, by rank.
        clocks: of the workers, from before the start.
        start_ns: the common start, on the driver's `perf_counter_ns`.
        point: that is measured.
    """

    def __init__(
        self,
        members: Sequence[RayMember],
        calls: list[Any],
        clocks: Sequence[Clock],
        start_ns: int,
        point: Point,
    ) -> None:
        self.start_ns = start_ns
        self._point = point
        self._members = members
        self._calls = calls
        self._clocks = clocks
        self._edges_seen = [0] * len(members)
        self._patience_s = FINISH_S
        start = time.monotonic() + (start_ns - time.perf_counter_ns()) / 1e9
        self._progress = [(0, start)] * len(members)
        """Batches that each worker had completed when that number was first seen, and when."""

    def elapsed_s(self) -> float:
        """Return the time since the common start; negative before it."""
        return (time.perf_counter_ns() - self.start_ns) / 1e9

    def wait(self, seconds: float) -> bool:
        """Sleep until a stream ends or the time is over; return whether one has ended."""
        import ray

        ended, _ = translate(
            lambda: ray.wait(self._calls, num_returns=1, timeout=seconds), "measure"
        )
        if ended:
            rank = self._calls.index(ended[0])
            with crashes.named(self._members, self._point):
                translate(lambda: ray.get(ended), "measure", (rank,))
        return bool(ended)

    def snapshot(self, stall_s: float) -> list[StreamSnapshot]:
        """Return what each worker has done since the snapshot before, in whole blocks.

        Raises:
            PhaseTimeout: naming the workers that have not completed a batch for `stall_s`.
        """
        self._patience_s = max(FINISH_S, stall_s)
        calls = [
            member.actor.snapshot.remote(seen)
            for member, seen in zip(self._members, self._edges_seen, strict=True)
        ]
        with crashes.named(self._members, self._point):
            snapshots: list[StreamSnapshot] = get_all(calls, stall_s, "measure")
        self._edges_seen = [
            seen + len(new.edges) for seen, new in zip(self._edges_seen, snapshots, strict=True)
        ]
        self._check_stalled(snapshots, stall_s)
        return snapshots

    def _check_stalled(self, snapshots: Sequence[StreamSnapshot], stall_s: float) -> None:
        now = time.monotonic()
        self._progress = [
            before if new.done == before[0] else (new.done, now)
            for before, new in zip(self._progress, snapshots, strict=True)
        ]
        stalled = [rank for rank, (_, since) in enumerate(self._progress) if now - since > stall_s]
        if stalled:
            raise with_ranks(
                PhaseTimeout(
                    f"No batch was completed for {stall_s:.0f} s on {counted(len(stalled), 'worker')}, "
                    f"{agreeing(len(stalled), 'which was', 'which were')} ended. Look for a hang, or raise cluster.stall_timeout_s."
                ),
                stalled,
            )

    def finish(self) -> tuple[list[Measurement], list[ClockDrift]]:
        """Halt all streams; return each worker's records, and its clock before and after."""
        for member in self._members:
            member.actor.halt.remote()
        with crashes.named(self._members, self._point):
            measurements = get_all(self._calls, self._patience_s, "measure")
        return measurements, clock.clock_drifts(self._clocks, measure_clocks(self._members))


def measure_clocks(members: Sequence[RayMember]) -> list[Clock]:
    """Return each worker's clock relative to the driver's, measured over `PINGS` round trips."""
    return [_measure_clock(member.actor, rank) for rank, member in enumerate(members)]


def _measure_clock(actor: Any, rank: int) -> Clock:
    pings = []
    for _ in range(PINGS):
        sent_ns = time.perf_counter_ns()
        worker_ns = get_all([actor.clock_ns.remote()], CALL_S, "start", (rank,))[0]
        pings.append((sent_ns, worker_ns, time.perf_counter_ns()))
    return clock.best(pings)
