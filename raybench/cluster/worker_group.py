"""The group of workers that measures one trial, each on a device slot of its own."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.cluster.actor import model_files, store_built
from raybench.cluster.ray_errors import get_all, translate, with_ranks
from raybench.errors import PhaseTimeout, PointError
from raybench.measure import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from raybench.cluster.reservation import Seats
    from raybench.engines.base import Layer
    from raybench.experiment import Point
    from raybench.measure.clock import Clock
    from raybench.planning.slots import DeviceSlot
    from raybench.worker import Look, Measurement, Place, Prepared

PINGS = 20
"""Round trips for a clock's offset; the shortest counts."""
CALL_S = 30.0
"""Deadline of a call that should answer at once."""
LEAD_NS = 100_000_000
"""Time between the order to start and the common start, at least."""


@dataclass(frozen=True)
class Member:
    """One worker of the gang and where it sits."""

    actor: Any
    node_id: str
    place: Place
    seat: int


def gather(
    seats: Seats,
    taken: Sequence[DeviceSlot],
    point: Point,
    label: str,
    purpose: str,
    timeout_s: float,
) -> Pool:
    """Workers for a point, each on a seat of its own, rank by rank.

    Args:
        seats: that the run holds.
        taken: for this point.
        point: says what they will measure.
        label: of the point and trial, for Ray's dashboard.
        purpose: workers that were kept for the same purpose are taken again.
        timeout_s: longest wait for their processes to start.

    Raises:
        PhaseTimeout: when they do not start in time.
        WorkerDied: when a worker's process does not come up.
        NodeDied: when a worker's node is no longer there; Ray would let it wait for ever.
    """
    sitting = [
        seats.take(seat, f"{label} worker {rank}", purpose) for rank, seat in enumerate(taken)
    ]
    actors = [actor for actor, _ in sitting]
    nodes = [seat.node for seat in taken]
    places = get_all([actor.place.remote() for actor in actors], timeout_s, "start", nodes=nodes)
    members = [
        Member(actor, seat.node, place, seat.number)
        for actor, place, seat in zip(actors, places, taken, strict=True)
    ]
    return Pool(members, point, label, all(fresh for _, fresh in sitting))


class Pool:
    """A running gang. Any method raises PointError when a member fails; then the gang is lost."""

    def __init__(self, members: list[Member], point: Point, label: str, fresh: bool) -> None:
        self.members = members
        self.point = point
        self.fresh = fresh
        """Whether every worker's process is new."""
        self._done = [(0, time.monotonic())] * len(members)
        self._label = label
        self._streams: list[Any] = []
        self._known = [0] * len(members)

    def prepare(self, seed: int, timeout_s: float, sharers: Mapping[str, int]) -> list[Prepared]:
        """Let every worker make ready, at the same time; worker 0 first in the list.

        Args:
            seed: of the synthetic batches.
            timeout_s: longest time that it may take.
            sharers: how many workers share the memory of a node, by its id.
        """
        files = model_files(self.point)
        calls = [
            member.actor.prepare.options(name=f"{self._label}/prepare").remote(
                self.point, rank, member.seat, seed, sharers[member.node_id], files
            )
            for rank, member in enumerate(self.members)
        ]
        return get_all(calls, timeout_s, "prepare")

    def build(self, seed: int, timeout_s: float, others: Iterable[str]) -> None:
        """Let the only worker make graph and plan, and give the plan to other nodes, once a node.

        A node that cannot be given it will build its own.

        Args:
            seed: of the synthetic batches.
            timeout_s: longest time that either may take.
            others: ids of nodes of the same kind.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        (member,) = self.members
        call = member.actor.build_plan.options(name=f"{self._label}/build").remote(
            self.point, member.seat, seed, model_files(self.point)
        )
        (built,) = get_all([call], timeout_s, "prepare")
        missing = set(others) - {member.node_id} if built else set()
        if not missing:
            return
        sent = [member.actor.pack.options(name=f"{self._label}/pack").remote(list(built))]
        lay = ray.remote(num_cpus=0, max_retries=0)(store_built)
        calls = [
            lay.options(
                name=f"{self._label}/lay",
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, False),
            ).remote(built, sent)
            for node in sorted(missing)
        ]
        ray.wait(calls, num_returns=len(calls), timeout=timeout_s)

    def clocks(self) -> list[Clock]:
        """Each worker's clock against the driver's, by the shortest of some round trips."""
        return [_clock(member.actor, rank) for rank, member in enumerate(self.members)]

    def start(self, clocks: Sequence[Clock], longest_s: float, block_ns: int) -> int:
        """Order all streams to begin at one instant; returns it by the driver's clock.

        Args:
            clocks: from `clocks`.
            longest_s: backstop for the length of the streams.
            block_ns: length of a block.
        """
        lead = max(LEAD_NS, 20 * max(each.round_trip_ns for each in clocks))
        start_ns = time.perf_counter_ns() + lead
        self._done = [(0, time.monotonic() + lead / 1e9)] * len(self.members)
        for member, each in zip(self.members, clocks, strict=True):
            local = start_ns + each.offset_ns
            self._streams.append(
                member.actor.stream.options(name=f"{self._label}/measure").remote(
                    local, local + int(longest_s * 1e9), block_ns
                )
            )
        return start_ns

    def wait(self, seconds: float) -> bool:
        """Sleep until a stream ends or the time is over; True when one has ended."""
        import ray

        ended, _ = ray.wait(self._streams, num_returns=1, timeout=seconds)
        if ended:
            rank = self._streams.index(ended[0])
            translate(lambda: ray.get(ended), "measure", (rank,))
        return bool(ended)

    def look(self, stall_s: float) -> list[Look]:
        """What each worker has done since the look before, in whole blocks.

        Raises:
            PhaseTimeout: naming the workers that have not completed a batch for `stall_s`.
        """
        calls = [
            member.actor.look.remote(known)
            for member, known in zip(self.members, self._known, strict=True)
        ]
        looks: list[Look] = get_all(calls, stall_s, "measure")
        self._known = [k + len(look.edges) for k, look in zip(self._known, looks, strict=True)]
        self._refuse_stalled(looks, stall_s)
        return looks

    def _refuse_stalled(self, looks: list[Look], stall_s: float) -> None:
        now = time.monotonic()
        self._done = [
            before if look.done == before[0] else (look.done, now)
            for before, look in zip(self._done, looks, strict=True)
        ]
        stalled = [rank for rank, (_, since) in enumerate(self._done) if now - since > stall_s]
        if stalled:
            raise with_ranks(
                PhaseTimeout(
                    f"No batch was completed for {stall_s:.0f} s on {len(stalled)} workers, which "
                    "were ended. Look for a hang, or raise cluster.stall_timeout_s."
                ),
                stalled,
            )

    def finish(self) -> list[Measurement]:
        """Halt every stream and bring in what was measured."""
        for member in self.members:
            member.actor.halt.remote()
        return get_all(self._streams, CALL_S + 10.0, "measure")

    def layers(self, timeout_s: float) -> tuple[Layer, ...]:
        """The layers of the first worker's model, timed in a run of their own."""
        call = self.members[0].actor.layers.options(name=f"{self._label}/layers").remote()
        found: tuple[Layer, ...] = get_all([call], timeout_s, "layers")[0]
        return found

    def release(self) -> None:
        """Let the engines free their devices before the processes end."""
        with contextlib.suppress(PointError):
            get_all([member.actor.close.remote() for member in self.members], CALL_S, "close")


def _clock(actor: Any, rank: int) -> Clock:
    pings = []
    for _ in range(PINGS):
        sent = time.perf_counter_ns()
        theirs = get_all([actor.clock_ns.remote()], CALL_S, "start", (rank,))[0]
        pings.append((sent, theirs, time.perf_counter_ns()))
    return clock.best(pings)
