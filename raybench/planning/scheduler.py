"""Scheduler: what may start now and on which devices, and what an ending means for the rest.

A pure state machine: it starts nothing, knows no clock and no Ray. The driver asks `next` until it
gets None, waits for something to end, and tells `end`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from raybench.errors import Infeasible, NodeDied, OutOfMemory, PhaseTimeout
from raybench.planning.plan import named
from raybench.planning.slots import pick

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.errors import PointError
    from raybench.experiment import Point
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.slots import DeviceSlot

LOOKAHEAD = 64
"""Steps that are considered for free devices."""
OVERTAKES = 8
"""So many steps may overtake one that waits for devices; then the devices wait for it."""
SET_ASIDE_AFTER = 2
"""Failures in a row, each of a point that then ran elsewhere, that cost a device its place."""
LARGEST_BATCH = 1 << 16
"""Where the search for the largest batch that fits ends."""


@dataclass(frozen=True)
class Attempt:
    """A step that is to start now, on these seats, rank by rank. `attempt` counts from 1."""

    step: PlannedTrial
    seats: tuple[DeviceSlot, ...]
    attempt: int


@dataclass(frozen=True)
class Outcome:
    """A step with its last word: a row is to be written. `error` is None when it was measured.

    Attributes:
        attempts: how often it was started; 0 for a step that was not tried.
        note: what else the row is to say.
    """

    step: PlannedTrial
    error: PointError | None
    attempts: int
    note: str | None = None


@dataclass
class _Search:
    """The search for the largest batch of a series: `fits` did, `fails` did not, as `words` say."""

    fits: int = 0
    fails: int | None = None
    probing: bool = False
    words: str = ""

    @property
    def found(self) -> bool:
        return self.fails == self.fits + 1 or self.fits >= LARGEST_BATCH

    @property
    def candidate(self) -> int:
        """The batch to try next: doubling until one fails, then the middle."""
        if self.found:
            return self.fits
        return 2 * self.fits or 1 if self.fails is None else (self.fits + self.fails) // 2


class Scheduler:
    """Steps that wait, run and end.

    Args:
        steps: in order.
        seats: devices that are held.
        isolation: cluster (one point at a time), node (no two points on one node) or gpu.
        retries: how often a step that failed is tried again.
        unfit: points that are known to run out of memory, from earlier runs.
        busy: why fewer seats are held than the cluster has; None when all are.
        placement: pack or spread, see `pick`.
    """

    def __init__(
        self,
        steps: Iterable[PlannedTrial],
        seats: Iterable[DeviceSlot],
        isolation: str,
        retries: int,
        unfit: Iterable[Point] = (),
        busy: str | None = None,
        placement: str = "pack",
    ) -> None:
        self._placement = placement
        self._waiting = list(steps)
        self._seats = list(seats)
        self._all = sorted(self._seats, key=lambda seat: (seat.node, seat.number))
        self._free = set(self._seats)
        self._isolation = isolation
        self._retries = retries
        self._busy = busy
        self._running: list[Attempt] = []
        self._gone: list[str] = []
        self._attempts: Counter[_Key] = Counter()
        self._suspects: dict[_Key, set[DeviceSlot]] = {}
        self._blame: Counter[DeviceSlot] = Counter()
        self._searches: dict[str, _Search] = {}
        self._overtakes: Counter[_Key] = Counter()
        self._unfit: dict[str, Point] = {}
        for point in unfit:
            self._note_unfit(point)

    @property
    def running(self) -> Sequence[Attempt]:
        """What has been started and has not ended."""
        return tuple(self._running)

    @property
    def set_aside(self) -> Sequence[str]:
        """Devices that are used no more, each with the reason, in words."""
        return tuple(self._gone)

    # ------------------------------------------------------------ starting

    def next(self) -> Attempt | None:
        """The next step to start and its seats; None until something ends, or for good."""
        if self._isolation == "cluster" and self._running:
            return None
        for step in self._waiting[:LOOKAHEAD]:
            chosen = self._candidate(step)
            seats = self._choose(chosen) if chosen else None
            if chosen is not None and seats is not None:
                return self._begin(step, chosen, seats)
            if chosen is not None and self._overtakes[_key(step)] >= OVERTAKES:
                return None
        return None

    def _begin(
        self, step: PlannedTrial, chosen: PlannedTrial, seats: tuple[DeviceSlot, ...]
    ) -> Attempt:
        for other in self._waiting:
            if other is step:
                break
            self._overtakes[_key(other)] += 1
        if chosen.purpose == "fit":
            self._searches[step.point.id].probing = True
        else:
            self._waiting = [other for other in self._waiting if other is not step]
        self._free -= set(seats)
        self._overtakes[_key(step)] = 0  # when it is tried again it has not waited yet
        self._attempts[_key(chosen)] += 1
        start = Attempt(chosen, seats, self._attempts[_key(chosen)])
        self._running.append(start)
        return start

    def _candidate(self, step: PlannedTrial) -> PlannedTrial | None:
        """The step itself; for `batch_size: max` a probe, or the step with the batch found."""
        if not step.point.largest:
            return step
        search = self._search(step.point)
        if search.probing:
            return None
        point = replace(step.point, batch_size=search.candidate, largest=search.found)
        return replace(step, point=point, purpose="measure" if search.found else "fit")

    def _search(self, point: Point) -> _Search:
        known = self._unfit.get(point.series)
        found = (
            _Search(fails=known.batch_size, words="it ran out of memory") if known else _Search()
        )
        return self._searches.setdefault(point.id, found)

    def _choose(self, step: PlannedTrial) -> tuple[DeviceSlot, ...] | None:
        point = step.point
        suspects = self._suspects.get(_key(step), set())
        usable = [seat for seat in self._seats if seat.suits(point.wants)]
        if step.among:
            usable = [seat for seat in usable if seat in step.among]
        if step.device is not None:
            wanted = [seat for seat in self._all if seat.suits(point.wants)]
            mine = wanted[step.device % len(wanted)] if wanted else None
            usable = [seat for seat in usable if seat == mine] or usable
        if len(set(usable) - suspects) >= point.workers:
            usable = [seat for seat in usable if seat not in suspects]
        taken = {seat.node for start in self._running for seat in start.seats}
        if self._isolation == "gpu":
            taken = set()
        free = [seat for seat in usable if seat in self._free and seat.node not in taken]
        return pick(free, point.workers, self._placement)

    # ------------------------------------------------------------ ending

    def end(self, start: Attempt, error: PointError | None) -> list[Outcome]:
        """A step has ended; returns all steps that have their last word by this."""
        self._running = [other for other in self._running if other is not start]
        self._free |= set(start.seats) & set(self._seats)
        self._judge_devices(start, error)
        if start.step.purpose == "prepare":
            settled = []  # what went wrong goes wrong again when it is measured, and is told then
        elif start.step.purpose == "fit":
            settled = self._end_probe(start, error)
        elif isinstance(error, OutOfMemory):
            settled = self._end_unfit(start, error)
        elif self._again(start, error) and self._hopeless(self._origin(start.step)) is None:
            self._waiting.insert(0, self._origin(start.step))
            settled = []
        else:
            settled = [Outcome(start.step, error, start.attempt, self._note(start.step))]
        return settled + self.hopeless()

    def _note(self, step: PlannedTrial) -> str | None:
        """Of a largest batch, why there is no larger one."""
        search = self._searches.get(step.point.id)
        if search is None or search.fails is None:
            return None
        return f"batch_size={search.fails} does not fit: {search.words}"

    def _again(self, start: Attempt, error: PointError | None) -> bool:
        return error is not None and error.retried and start.attempt <= self._retries

    def _end_probe(self, start: Attempt, error: PointError | None) -> list[Outcome]:
        step = start.step
        mine = (s for s in self._waiting if s.point.largest and s.index == step.index)
        owner = next(mine, None)
        if owner is None:  # the devices for it went away meanwhile
            return []
        search = self._searches[owner.point.id]
        search.probing = False
        if error is None:
            search.fits = step.point.batch_size
        elif isinstance(error, OutOfMemory):
            search.fails, search.words = step.point.batch_size, str(error)
            self._note_unfit(step.point)
            if search.fails == 1:
                return self._give_up(owner, error, start.attempt)
        elif not self._again(start, error):
            return self._give_up(owner, error, start.attempt)
        return []

    def _end_unfit(self, start: Attempt, error: OutOfMemory) -> list[Outcome]:
        """A batch that ran out of memory; of a largest batch, a smaller one is looked for."""
        step = start.step
        if not step.point.largest or step.point.batch_size == 1:
            self._note_unfit(step.point)
            return [Outcome(step, error, start.attempt)]
        search = self._searches[step.point.id]
        search.fails, search.fits = step.point.batch_size, step.point.batch_size // 2
        search.words = str(error)
        self._waiting.insert(0, self._origin(step))
        self._note_unfit(replace(step.point, largest=False))
        return []

    def _origin(self, step: PlannedTrial) -> PlannedTrial:
        if not step.point.largest:
            return step
        return replace(step, point=replace(step.point, batch_size=1))

    def _give_up(self, owner: PlannedTrial, error: PointError, attempts: int) -> list[Outcome]:
        """End every trial of a largest batch that cannot be found."""
        mine = [step for step in self._waiting if step.point.id == owner.point.id]
        self._waiting = [step for step in self._waiting if step.point.id != owner.point.id]
        return [Outcome(step, error, attempts) for step in mine]

    def _note_unfit(self, point: Point) -> None:
        known = self._unfit.get(point.series)
        if known is None or point.batch_size < known.batch_size:
            self._unfit[point.series] = point

    # ------------------------------------------------------------ devices

    def _judge_devices(self, start: Attempt, error: PointError | None) -> None:
        """Blame a device when a point that failed on it then ran without it."""
        if isinstance(error, NodeDied):
            for rank in error.ranks:
                self._lose(start.seats[rank].node)
        elif error is not None and error.retried:
            struck = {start.seats[rank] for rank in error.ranks}
            self._suspects.setdefault(_key(start.step), set()).update(struck)
        elif error is None:
            for seat in start.seats:
                self._blame[seat] = 0
            for seat in self._suspects.pop(_key(start.step), set()) - set(start.seats):
                self._blame[seat] += 1
                if self._blame[seat] == SET_ASIDE_AFTER and seat in self._seats:
                    self._drop([seat], f"{seat} was set aside after {SET_ASIDE_AFTER} failures")

    def _lose(self, node: str) -> None:
        lost = [seat for seat in self._seats if seat.node == node]
        if lost:
            self._drop(lost, f"node {lost[0].host or node} with {len(lost)} devices went away")

    def _drop(self, seats: list[DeviceSlot], reason: str) -> None:
        self._gone.append(reason)
        self._seats = [seat for seat in self._seats if seat not in seats]
        self._free -= set(seats)

    def hopeless(self) -> list[Outcome]:
        """Steps that need not or cannot be tried any more; they are taken off the agenda."""
        found = [(step, self._hopeless(step)) for step in self._waiting]
        self._waiting = [step for step, error in found if error is None]
        return [Outcome(step, error, 0) for step, error in found if error is not None]

    def _hopeless(self, step: PlannedTrial) -> PointError | None:
        point = step.point
        known = self._unfit.get(point.series)
        if known is not None and not point.largest and point.batch_size > known.batch_size:
            return Infeasible(
                f"batch_size={known.batch_size} of this series ran out of memory, so "
                f"{point.batch_size} was not tried. Use a smaller batch_size or a device with "
                "more memory."
            )
        left = sum(seat.suits(point.wants) for seat in self._seats)
        if point.workers <= left:
            return None
        if self._busy is not None:
            return PhaseTimeout(self._busy)
        error = Infeasible(
            f"workers={point.workers} needs {point.workers} {named(point.wants)} and {left} are left: "
            f"{'; '.join(self._gone)}. Mend that; the same command then runs what is missing."
        )
        error.lost = True
        return error


_Key: TypeAlias = tuple[str, int, str]


def _key(step: PlannedTrial) -> _Key:
    """A probe is not the trial of the same batch that the grid may hold too."""
    return (step.point.id, step.trial, step.purpose)
