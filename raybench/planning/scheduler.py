"""The scheduler: which trial may start now and where, and what its end means for others.

A pure state machine without clock, threads or Ray. The caller asks `next_attempt` until it returns
None, waits until something ends, and reports that to `end`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.errors import Infeasible, OutOfMemory, PhaseTimeout
from raybench.planning.attempts import Attempt, Outcome
from raybench.planning.batch_search import BatchSearches
from raybench.planning.device_health import DeviceHealth
from raybench.planning.slot_pool import SlotPool
from raybench.planning.slots import describe
from raybench.text import agreeing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.errors import PointError
    from raybench.experiment import Point
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.slots import DeviceSlot

LOOKAHEAD = 64
"""Waiting trials that are considered for the free devices."""
OVERTAKES = 8
"""After so many trials have overtaken one that waits for devices, the devices wait for it."""


@dataclass(frozen=True)
class SchedulingPolicy:
    """How trials share devices.

    Attributes:
        isolation: "cluster" runs one point at a time, "node" never two points on one node, "gpu"
            as many as there are devices for.
        retries: how often a failed trial is tried again.
        placement: "pack" or "spread"; see `slots.pick`.
    """

    isolation: str = "node"
    retries: int = 0
    placement: str = "pack"


class Scheduler:
    """The queue of planned trials, those that run, and the devices they run on.

    Args:
        trials: in the order in which they should start.
        slots: that the run holds.
        policy: how trials share them.
        out_of_memory: points that ran out of memory in earlier runs.
        busy: why fewer slots are held than the cluster has; None when all are.
    """

    def __init__(
        self,
        trials: Iterable[PlannedTrial],
        slots: Iterable[DeviceSlot],
        policy: SchedulingPolicy,
        out_of_memory: Iterable[Point] = (),
        busy: str | None = None,
    ) -> None:
        self._waiting = list(trials)
        every = sorted(slots, key=lambda slot: (slot.node, slot.number))
        self._health = DeviceHealth(every)
        self._slots = SlotPool(every, self._health, policy.isolation, policy.placement)
        self._policy = policy
        self._searches = BatchSearches(out_of_memory)
        self._busy = busy
        self._running: list[Attempt] = []
        self._checked: tuple[int, int] | None = None
        self._attempts: Counter[tuple[str, int, str]] = Counter()
        self._overtakes: Counter[tuple[str, int, str]] = Counter()

    @property
    def running(self) -> Sequence[Attempt]:
        """The attempts that have started and not ended."""
        return tuple(self._running)

    @property
    def removed_devices(self) -> Sequence[str]:
        """Why devices are no longer used, a sentence each."""
        return tuple(self._health.removed)

    # ------------------------------------------------------------ starting

    def next_attempt(self) -> Attempt | None:
        """Start the next trial that can run now; None until something ends, or for good."""
        if self._policy.isolation == "cluster" and self._running:
            return None
        for waiting in self._waiting[:LOOKAHEAD]:
            if self._lacks_capacity(waiting):
                continue
            planned = self._searches.resolve(waiting)
            slots = self._slots.choose(planned) if planned else None
            if planned is not None and slots is not None:
                return self._start(waiting, planned, slots)
            if planned is not None and self._overtakes[waiting.attempt_key] >= OVERTAKES:
                return None
        return None

    def _lacks_capacity(self, waiting: PlannedTrial) -> bool:
        """Return whether the closed loop, of whose rate the load is a share, is still to come."""
        if not waiting.point.is_share or waiting.purpose != "measure":
            return False
        capacity = (waiting.point.closed.id, 0)
        running = (attempt.planned for attempt in self._running)
        return any(
            other.key == capacity and other.purpose == "measure"
            for other in (*self._waiting, *running)
        )

    def _start(
        self, waiting: PlannedTrial, planned: PlannedTrial, slots: tuple[DeviceSlot, ...]
    ) -> Attempt:
        for other in self._waiting:
            if other is waiting:
                break
            self._overtakes[other.attempt_key] += 1
        if planned.purpose == "fit":
            self._searches.start_probe(waiting.point)
        else:
            del self._waiting[next(k for k, o in enumerate(self._waiting) if o is waiting)]
        self._overtakes[waiting.attempt_key] = 0  # a retry has not waited yet
        self._attempts[planned.attempt_key] += 1
        attempt = Attempt(planned, slots, self._attempts[planned.attempt_key])
        self._running.append(attempt)
        self._slots.take(slots)
        return attempt

    # ------------------------------------------------------------ ending

    def end(self, attempt: Attempt, error: PointError | None) -> list[Outcome]:
        """Record the end of an attempt; return the outcomes of all trials it decides."""
        self._running = [other for other in self._running if other is not attempt]
        self._slots.give_back(attempt.slots)
        self._health.record(attempt, error)
        return self._outcomes(attempt, error) + self.drop_impossible()

    def _outcomes(self, attempt: Attempt, error: PointError | None) -> list[Outcome]:
        planned = attempt.planned
        if planned.purpose == "prepare":
            return []  # what failed fails again when it is measured, and becomes a row then
        if planned.purpose == "fit":
            return self._end_probe(attempt, error)
        if isinstance(error, OutOfMemory):
            return self._end_out_of_memory(attempt, error)
        queued = _as_queued(planned)
        if self._retries(attempt, error):
            impossible = self._why_impossible(queued)
            if impossible is None:
                self._waiting.insert(0, queued)
                return []
            if self._searches.excludes(queued.point):
                error = impossible  # a smaller batch ran out of memory meanwhile
        return [Outcome(planned, error, attempt.number, self._searches.note(planned.point))]

    def _retries(self, attempt: Attempt, error: PointError | None) -> bool:
        return error is not None and error.retried and attempt.number <= self._policy.retries

    def _end_probe(self, attempt: Attempt, error: PointError | None) -> list[Outcome]:
        probe = attempt.planned
        searching = (
            waiting
            for waiting in self._waiting
            if waiting.point.largest and waiting.point_index == probe.point_index
        )
        waiting = next(searching, None)
        if waiting is None:  # the devices for it went away meanwhile
            return []
        self._searches.end_probe(waiting.point, probe.point, error)
        if error is None or self._retries(attempt, error):
            return []
        if isinstance(error, OutOfMemory) and probe.point.batch_size > 1:
            return []  # a smaller batch may fit
        return self._give_up(waiting, error, attempt.number)

    def _end_out_of_memory(self, attempt: Attempt, error: OutOfMemory) -> list[Outcome]:
        planned, point = attempt.planned, attempt.planned.point
        if not point.largest or point.batch_size == 1:
            self._searches.record_limit(point)
            return [Outcome(planned, error, attempt.number)]
        self._searches.reopen(point, error)
        self._waiting.insert(0, _as_queued(planned))
        return []

    def _give_up(self, waiting: PlannedTrial, error: PointError, attempts: int) -> list[Outcome]:
        """End every trial of a point whose largest batch cannot be determined."""
        point_id = waiting.point.id
        ended = [other for other in self._waiting if other.point.id == point_id]
        self._waiting = [other for other in self._waiting if other.point.id != point_id]
        return [Outcome(planned, error, attempts) for planned in ended]

    def drop_impossible(self) -> list[Outcome]:
        """Remove waiting trials that can no longer run; return the measurements with the reason.

        A preparation has no row: what it would have prepared is decided when it is measured.
        """
        state = (len(self._health.usable), self._searches.limits_recorded)
        if state == self._checked:
            return []  # nothing went away since, and thousands may wait
        self._checked = state
        reasons = [(waiting, self._why_impossible(waiting)) for waiting in self._waiting]
        self._waiting = [waiting for waiting, error in reasons if error is None]
        return [
            Outcome(waiting, error, 0)
            for waiting, error in reasons
            if error is not None and waiting.purpose != "prepare"
        ]

    def _why_impossible(self, waiting: PlannedTrial) -> PointError | None:
        point = waiting.point
        limit = self._searches.limit(point)
        if limit is not None and self._searches.excludes(point):
            batch_size = "max" if point.largest else point.batch_size
            return Infeasible(
                f"batch_size={limit} of this series ran out of memory, so {batch_size} was "
                "not tried. Use a smaller batch_size or a device with more memory."
            )
        left = len(self._slots.usable(point.wants))
        if point.workers <= left:
            return None
        if self._busy is not None:
            return PhaseTimeout(self._busy)
        error = Infeasible(
            f"workers={point.workers} needs {describe(point.wants, point.workers)} and {left} "
            f"{agreeing(left, 'is', 'are')} left: {'; '.join(self._health.removed)}. Fix that; the same command then runs what "
            "is missing."
        )
        error.devices_lost = True
        return error


def _as_queued(planned: PlannedTrial) -> PlannedTrial:
    """Return a started trial as it was in the queue: a largest batch is still open there."""
    if not planned.point.largest:
        return planned
    return replace(planned, point=replace(planned.point, batch_size=1))
