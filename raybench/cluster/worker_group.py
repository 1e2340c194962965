"""Pool: the gang of workers of one trial of one point; the only thing that speaks to actors."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from raybench.cluster import file_transfer as parcels
from raybench.errors import (
    EngineFailure,
    NodeDied,
    OutOfMemory,
    PhaseTimeout,
    PointError,
    RaybenchError,
    Refused,
    WorkerDied,
)
from raybench.measure import clock
from raybench.worker import Look, Measurement, Place, Prepared, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from raybench.cluster.file_transfer import Parcel
    from raybench.cluster.reservation import Seats
    from raybench.engines.base import Layer
    from raybench.experiment import Point
    from raybench.measure.clock import Clock
    from raybench.planning.slots import DeviceSlot

PINGS = 20
"""Round trips for a clock's offset; the shortest counts."""
CALL_S = 30.0
"""Deadline of a call that should answer at once."""
NODES_S = 1.0
"""Time between two looks whether the nodes of workers that are to start are still there."""
LEAD_NS = 100_000_000
"""Time between the order to start and the common start, at least."""

T = TypeVar("T")


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
    places = _get([actor.place.remote() for actor in actors], timeout_s, "start", nodes=nodes)
    members = [
        Member(actor, seat.node, place, seat.number)
        for actor, place, seat in zip(actors, places, taken, strict=True)
    ]
    return Pool(members, point, label, all(fresh for _, fresh in sitting))


@lru_cache(maxsize=1)
def actor_class() -> Any:
    """The Worker as an actor: `look` and `halt` run on a thread beside the stream.

    Calls that come by the hundred leave no trace in Ray's dashboard, which keeps 10,000 of a job
    and is to show what the workers do. Ray never restarts it and never repeats a call: a trial that was cut off is no trial.
    """
    import ray

    class BenchWorker(Worker):
        @override
        def prepare(
            self,
            point: Point,
            rank: int,
            seat: int,
            seed: int,
            sharers: int = 1,
            parcel: Sequence[Any] = (),
        ) -> Prepared:
            return super().prepare(_at_home(point, parcel), rank, seat, seed, sharers)

        def build_plan(
            self, point: Point, seat: int, seed: int, parcel: Sequence[Any]
        ) -> dict[str, str]:
            return parcels.manifest(self.build(_at_home(point, parcel), seat, seed))

        def pack(self, names: Sequence[str]) -> Parcel:
            return parcels.pack_built(names)

        @ray.method(enable_task_events=False)  # type: ignore[untyped-decorator]
        @override
        def clock_ns(self) -> int:
            return super().clock_ns()

        @ray.method(concurrency_group="watch", enable_task_events=False)  # type: ignore[untyped-decorator]
        @override
        def look(self, known: int) -> Look:
            return super().look(known)

        @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        @override
        def halt(self) -> None:
            super().halt()

    BenchWorker.__qualname__ = "BenchWorker"  # as the dashboard shows it
    options = {"concurrency_groups": {"watch": 1}, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(**options)(BenchWorker)


def _at_home(point: Point, parcel: Sequence[Any]) -> Point:
    """The point with its model's path on this node, brought here by a parcel if need be."""
    import ray

    for sent in parcel:
        fetch = partial(ray.get, sent)
        path = parcels.here(point.model, point.model_settings, point.model_identity, fetch)
        point = replace(point, model=path)
    return point


def _lay(wanted: Mapping[str, str], parcel: Sequence[Any]) -> bool:
    """A task on a node that is to have what another one built."""
    import ray

    return parcels.lay(wanted, partial(ray.get, parcel[0]))


def _parcel(point: Point) -> list[Any]:
    """The model's files in the object store, in a list so that only who asks gets them.

    Empty for models that need no files, and where Ray was started by this process on this machine.
    """
    import ray

    context = ray.get_runtime_context()
    if not parcels.travels(point.model) or not context.runtime_env.get("py_modules"):
        return []
    return [_sent(context.get_job_id(), point.model, point.model_identity)]


@lru_cache(maxsize=16)
def _sent(_job: str, name: str, _identity: str) -> Any:
    import ray

    return ray.put(parcels.pack(name))


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
        parcel = _parcel(self.point)
        calls = [
            member.actor.prepare.options(name=f"{self._label}/prepare").remote(
                self.point, rank, member.seat, seed, sharers[member.node_id], parcel
            )
            for rank, member in enumerate(self.members)
        ]
        return _get(calls, timeout_s, "prepare")

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
            self.point, member.seat, seed, _parcel(self.point)
        )
        (built,) = _get([call], timeout_s, "prepare")
        missing = set(others) - {member.node_id} if built else set()
        if not missing:
            return
        sent = [member.actor.pack.options(name=f"{self._label}/pack").remote(list(built))]
        lay = ray.remote(num_cpus=0, max_retries=0)(_lay)
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
            _translated(lambda: ray.get(ended), "measure", (rank,))
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
        looks: list[Look] = _get(calls, stall_s, "measure")
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
            raise _struck(
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
        return _get(self._streams, CALL_S + 10.0, "measure")

    def layers(self, timeout_s: float) -> tuple[Layer, ...]:
        """The layers of the first worker's model, timed in a run of their own."""
        call = self.members[0].actor.layers.options(name=f"{self._label}/layers").remote()
        found: tuple[Layer, ...] = _get([call], timeout_s, "layers")[0]
        return found

    def release(self) -> None:
        """Let the engines free their devices before the processes end."""
        with contextlib.suppress(PointError):
            _get([member.actor.close.remote() for member in self.members], CALL_S, "close")


def _clock(actor: Any, rank: int) -> Clock:
    pings = []
    for _ in range(PINGS):
        sent = time.perf_counter_ns()
        theirs = _get([actor.clock_ns.remote()], CALL_S, "start", (rank,))[0]
        pings.append((sent, theirs, time.perf_counter_ns()))
    return clock.best(pings)


def _get(
    calls: list[Any],
    timeout_s: float,
    phase: str,
    ranks: Sequence[int] | None = None,
    nodes: Sequence[str] = (),
) -> list[Any]:
    """Results of all calls in order; the first failure among them as a PointError with its ranks.

    `ranks` are the workers called; by default one call a worker. The wait also ends when one of
    their `nodes` does.
    """
    import ray

    rank_of = dict(zip(calls, ranks if ranks is not None else range(len(calls)), strict=True))
    deadline = time.monotonic() + timeout_s
    waiting = list(calls)
    while waiting:
        left = max(deadline - time.monotonic(), 0.0)
        ready, waiting = ray.wait(
            waiting, num_returns=1, timeout=min(left, NODES_S) if nodes else left
        )
        if ready:
            _translated(lambda refs=ready: ray.get(refs), phase, (rank_of[ready[0]],))  # type: ignore[misc]
            continue
        late = [rank_of[call] for call in waiting]
        if lost_nodes([nodes[rank] for rank in late] if nodes else (), 0.0):
            raise _struck(NodeDied(f"A node went away in phase {phase!r}."), late)
        if time.monotonic() >= deadline:
            raise _struck(_overdue(phase, timeout_s, len(late)), late)
    return _translated(lambda: list(ray.get(calls)), phase)


def _overdue(phase: str, timeout_s: float, workers: int) -> PhaseTimeout:
    return PhaseTimeout(
        f"Phase {phase!r} did not end within {timeout_s:.0f} s on {workers} workers, which were "
        "ended. Look for a hang, or allow more time."
    )


def _struck(error: PointError, ranks: Sequence[int]) -> PointError:
    error.ranks = tuple(ranks)
    return error


def _translated(call: Callable[[], T], phase: str, ranks: Sequence[int] = ()) -> T:
    """Run a call of Ray; turn what it raises into the project's own errors."""
    try:
        return call()
    except Exception as error:
        own = failure_of(error, phase)
        if own is None:
            raise
        raise _struck(own, ranks) from error


def failure_of(error: Exception, phase: str) -> PointError | None:
    """The project's own error for one of Ray's; None for a bug."""
    import ray.exceptions as rx

    if isinstance(error, rx.RayTaskError):
        cause = error.cause
        if isinstance(cause, PointError):
            return cause
        if isinstance(cause, RaybenchError):
            return Refused(str(cause))
        if isinstance(cause, MemoryError):
            return OutOfMemory(phase, None, str(cause) or "MemoryError")
        return EngineFailure(
            f"A worker raised {type(cause).__name__} in phase {phase!r}: {_last_line(cause)}"
        )
    if isinstance(error, rx.OutOfMemoryError):
        return OutOfMemory(phase, None, "Ray ended the worker to save the node")
    if isinstance(error, rx.NodeDiedError):
        return NodeDied(f"A node went away in phase {phase!r}. Look at that machine.")
    if isinstance(error, (rx.ActorDiedError, rx.ActorUnavailableError, rx.TaskCancelledError)):
        died = WorkerDied(f"A worker's process ended in phase {phase!r}: {_last_line(error)}")
        died.vague = isinstance(error, rx.ActorUnavailableError)
        return died
    return None


def lost_nodes(nodes: Sequence[str], wait_s: float) -> list[str]:
    """Those of the nodes that Ray holds for dead; asks until one is, or `wait_s` are over.

    Ray breaks a call to a lost node within seconds and calls the node dead only later.
    """
    import ray

    deadline = time.monotonic() + wait_s
    while nodes:
        lost: list[str] = []
        with contextlib.suppress(Exception):  # the cluster itself may be going
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            lost = [node for node in nodes if node not in alive]
        if lost or time.monotonic() >= deadline:
            return lost
        time.sleep(0.25)
    return []


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
