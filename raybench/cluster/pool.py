"""Pool: the gang of workers of one trial of one point; the only thing that speaks to actors."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from raybench.errors import (
    EngineFailure,
    NodeDied,
    OutOfMemory,
    PhaseTimeout,
    PointError,
    RaybenchError,
    WorkerDied,
)
from raybench.measure import clock
from raybench.worker import Look, Measurement, Place, Prepared, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from raybench.engines.base import Layer
    from raybench.experiment import Point
    from raybench.measure.clock import Clock

PINGS = 20
"""Round trips for a clock's offset; the shortest counts."""
CALL_S = 30.0
"""Deadline of a call that should answer at once."""
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


@contextlib.contextmanager
def gather(point: Point, label: str, timeout_s: float) -> Iterator[Pool]:
    """Fresh worker processes for a point, each on a device of its own; ended at the end.

    Args:
        point: says how many workers and what kind of device.
        label: of the point and trial, for Ray's dashboard.
        timeout_s: longest wait for the devices.

    Raises:
        PhaseTimeout: when the devices do not become free in time.
        WorkerDied: when a worker's process does not come up.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    bundle = {"GPU": 1} if point.device == "gpu" else {"CPU": 1}
    group = placement_group([bundle] * point.workers, strategy="PACK")
    actors: list[Any] = []
    try:
        if not group.wait(timeout_s):
            raise PhaseTimeout(
                f"{point.workers} {point.device} devices did not become free in {timeout_s:.0f} s. "
                "End the other work on the cluster, or raise cluster.start_timeout_s."
            )
        actors += [_actor(group, rank, point, label) for rank in range(point.workers)]
        yield Pool(_seated(actors), point, label)
    finally:
        for actor in actors:
            ray.kill(actor)
        remove_placement_group(group)


def _actor(group: Any, rank: int, point: Point, label: str) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    gpu = point.device == "gpu"
    return (
        _actor_class()
        .options(
            name=f"{label}/worker-{rank}-{time.monotonic_ns()}",
            num_gpus=1 if gpu else 0,
            num_cpus=0 if gpu else 1,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=rank
            ),
        )
        .remote(f"{label} worker {rank}")
    )


@lru_cache(maxsize=1)
def _actor_class() -> Any:
    """The Worker as an actor: `look` and `halt` run on a thread beside the stream.

    Ray never restarts it and never repeats a call: a trial that was cut off is no trial.
    """
    import ray

    class BenchWorker(Worker):
        @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        @override
        def look(self, known: int) -> Look:
            return super().look(known)

        @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
        @override
        def halt(self) -> None:
            super().halt()

        def node_id(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    options = {"concurrency_groups": {"watch": 1}, "max_restarts": 0, "max_task_retries": 0}
    return ray.remote(**options)(BenchWorker)


def _seated(actors: list[Any]) -> list[Member]:
    places = _get([actor.place.remote() for actor in actors], CALL_S, "start")
    nodes = _get([actor.node_id.remote() for actor in actors], CALL_S, "start")
    seats: Counter[str] = Counter()
    members = []
    for actor, place, node in zip(actors, places, nodes, strict=True):
        members.append(Member(actor, node, place, seats[node]))
        seats[node] += 1
    return members


class Pool:
    """A running gang. Any method raises PointError when a member fails; then the gang is lost."""

    def __init__(self, members: list[Member], point: Point, label: str) -> None:
        self.members = members
        self.point = point
        self._label = label
        self._streams: list[Any] = []
        self._known = [0] * len(members)

    def prepare(self, seed: int, timeout_s: float) -> list[Prepared]:
        """Let every worker make ready, at the same time; worker 0 first in the list."""
        calls = [
            member.actor.prepare.options(name=f"{self._label}/prepare").remote(
                self.point, rank, member.seat, seed
            )
            for rank, member in enumerate(self.members)
        ]
        return _get(calls, timeout_s, "prepare")

    def clocks(self) -> list[Clock]:
        """Each worker's clock against the driver's, by the shortest of some round trips."""
        return [_clock(member.actor) for member in self.members]

    def start(self, clocks: Sequence[Clock], longest_s: float, block_ns: int, expected: int) -> int:
        """Order all streams to begin at one instant; returns it by the driver's clock.

        Args:
            clocks: from `clocks`.
            longest_s: backstop for the length of the streams.
            block_ns: length of a block.
            expected: batches to come per worker, at a guess.
        """
        lead = max(LEAD_NS, 20 * max(each.round_trip_ns for each in clocks))
        start_ns = time.perf_counter_ns() + lead
        for member, each in zip(self.members, clocks, strict=True):
            local = start_ns + each.offset_ns
            self._streams.append(
                member.actor.stream.options(name=f"{self._label}/measure").remote(
                    local, local + int(longest_s * 1e9), block_ns, expected
                )
            )
        return start_ns

    def wait(self, seconds: float) -> bool:
        """Sleep until a stream ends or the time is over; True when one has ended."""
        import ray

        ended, _ = ray.wait(self._streams, num_returns=1, timeout=seconds)
        if ended:
            _get(ended, CALL_S, "measure")
        return bool(ended)

    def look(self) -> list[Look]:
        """What each worker has done since the look before, in whole blocks."""
        calls = [
            member.actor.look.remote(known)
            for member, known in zip(self.members, self._known, strict=True)
        ]
        looks: list[Look] = _get(calls, CALL_S, "measure")
        self._known = [k + len(look.edges) for k, look in zip(self._known, looks, strict=True)]
        return looks

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


def _clock(actor: Any) -> Clock:
    pings = []
    for _ in range(PINGS):
        sent = time.perf_counter_ns()
        theirs = _get([actor.clock_ns.remote()], CALL_S, "start")[0]
        pings.append((sent, theirs, time.perf_counter_ns()))
    return clock.best(pings)


def _get(calls: list[Any], timeout_s: float, phase: str) -> list[Any]:
    """Results of all calls in order; the first failure among them as a PointError."""
    import ray

    deadline = time.monotonic() + timeout_s
    waiting = list(calls)
    while waiting:
        left = max(deadline - time.monotonic(), 0.0)
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=left)
        if not ready:
            raise PhaseTimeout(
                f"Phase {phase!r} did not end within {timeout_s:.0f} s on {len(waiting)} workers, "
                "which were ended. Look for a hang, or allow more time."
            )
        _translated(lambda refs=ready: ray.get(refs), phase)  # type: ignore[misc]
    return _translated(lambda: list(ray.get(calls)), phase)


def _translated(call: Callable[[], T], phase: str) -> T:
    """Run a call of Ray; turn what it raises into the project's own errors."""
    import ray.exceptions as rx

    try:
        return call()
    except rx.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RaybenchError):
            raise cause from None
        if isinstance(cause, MemoryError):
            raise OutOfMemory(phase, None, str(cause) or "MemoryError") from None
        raise EngineFailure(
            f"A worker raised {type(cause).__name__} in phase {phase!r}: {_last_line(cause)}"
        ) from error
    except rx.OutOfMemoryError as error:
        raise OutOfMemory(phase, None, "Ray ended the worker to save the node") from error
    except rx.NodeDiedError as error:
        raise NodeDied(f"A node went away in phase {phase!r}. Look at that machine.") from error
    except (rx.ActorDiedError, rx.ActorUnavailableError) as error:
        raise WorkerDied(
            f"A worker's process ended in phase {phase!r}: {_last_line(error)}"
        ) from error


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
