"""Estimates: how long trials take, first from the plan and then from what has been measured.

A trial takes its preparation and the blocks of warm-up and window, which a slow batch stretches
(`raybench.measure.limits`). So all hangs on the time of a batch: guessed from the model's
multiply-accumulates within the bounds of what devices do, then known from the first probe, and for
other batch sizes and other points of the engine derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from raybench.experiment import parse_load
from raybench.measure.limits import Limits
from raybench.measure.open_rules import GAP_BATCHES
from raybench.planning.rate_search import NOT_BEGUN, START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from raybench.experiment import Point
    from raybench.planning.plan import Plan, PlannedTrial
    from raybench.planning.rate_search import TrialsAhead

PREPARE_S = 4.0
"""Time to start the workers of a point and to load a cached model."""
PREPARE_BATCHES = 3
"""Batches before the stream: the first, that of the fp32 outputs, and the probe."""
MACS_PER_S = {"cpu": (4e10, 1e12), "gpu": (2e12, 1e15)}
"""What a core or a GPU computes at least and at most, in multiply-accumulates a second."""
NEAR, FAR = 1.3, 4.0
"""Factors between an estimate and the truth: for a time that was measured, and for one derived from
the speed of another network on the same engine."""
LONG_BATCH_S = 5.0
"""From so long a batch on, progress says how long it has been running."""


class TimeRange(NamedTuple):
    """The shortest and the longest time that something may take, in seconds."""

    shortest_s: float
    longest_s: float

    def plus(self, other: TimeRange) -> TimeRange:
        """Return the range of both, one after the other."""
        return TimeRange(self.shortest_s + other.shortest_s, self.longest_s + other.longest_s)

    def times(self, factor: float) -> TimeRange:
        """Return the range of so many."""
        return TimeRange(self.shortest_s * factor, self.longest_s * factor)

    def after(self, elapsed_s: float) -> TimeRange:
        """Return what is left after some time."""
        return TimeRange(*(max(seconds - elapsed_s, 0.0) for seconds in self))


NOTHING = TimeRange(0.0, 0.0)


def trial_range(point: Point, batch: TimeRange) -> TimeRange:
    """Return how long a trial of a point takes whose batch takes so long.

    Engines on one device are loaded at the same time, at best without slowing each other.
    """
    fast, slow = (Limits.of(point.measure, max(each, _gap_s(point, each))) for each in batch)
    return TimeRange(
        PREPARE_S
        + PREPARE_BATCHES * batch.shortest_s
        + (fast.warmup_min + fast.measure_min) * fast.span_s,
        PREPARE_S * point.instances
        + PREPARE_BATCHES * batch.longest_s
        + (slow.warmup_max + slow.measure_max) * slow.span_s,
    )


def _gap_s(point: Point, batch_s: float) -> float:
    """Return the time between arrivals at an engine: where they are rare, blocks are longer."""
    load = parse_load(point.load)
    if load is not None and load.items_per_s is not None:
        return GAP_BATCHES * point.engines / load.items_per_s
    if load is not None and load.share is not None:
        return GAP_BATCHES * batch_s / (load.share * point.batch_size)
    return 0.0


def guess_batch(point: Point, macs_per_item: int | None) -> TimeRange:
    """Return how long a batch takes by the model's multiply-accumulates; 0 where unknown."""
    if not macs_per_item or point.largest:
        return NOTHING
    slowest, fastest = MACS_PER_S[point.device]
    macs = macs_per_item * point.batch_size
    return TimeRange(macs / fastest, macs * point.instances / slowest)


def in_parallel(plan: Plan, ranges: Iterable[tuple[Point, TimeRange]]) -> TimeRange:
    """Return how long trials take on the devices of a plan, side by side where it allows that."""
    every = list(ranges)
    if plan.concurrent_devices == 1:
        return _sum(one for _, one in every)
    device_s = _sum(one.times(point.workers) for point, one in every)
    shared = device_s.times(1 / plan.concurrent_devices)
    longest = [max((seconds[k] for _, seconds in every), default=0.0) for k in (0, 1)]
    return TimeRange(max(shared[0], longest[0]), max(shared[1], longest[1]))


def _sum(ranges: Iterable[TimeRange]) -> TimeRange:
    total = NOTHING
    for one in ranges:
        total = total.plus(one)
    return total


@dataclass(frozen=True)
class _Kind:
    """Points whose batches take the same time, but for their size and what else the device computes."""

    model: str
    engine: tuple[object, ...]


@dataclass
class _Running:
    """A trial that has started, and when."""

    planned: PlannedTrial
    began_s: float


class TimeLeft:
    """Estimates the time that is left of a run, and of its trials, from what was measured so far.

    Args:
        plan: of the run.
        clock: returns monotonic seconds.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        self._plan = plan
        self._clock = clock
        points = {point.id for point in plan.points}  # a search asks for others
        self._open = {t.number: t for t in plan.trials if t.point.id in points}
        self._probes = {index: _probe(plan.points[index]) for index in plan.searched}
        self._ahead: dict[int, TrialsAhead] = dict.fromkeys(plan.searched, NOT_BEGUN)
        self._running: dict[int, _Running] = {}
        self._batches: dict[_Kind, dict[int, float]] = {}
        self._ended_s: dict[tuple[str, int], float] = {}
        self._took_s: dict[str, float] = {}
        self._ranges: dict[str, TimeRange] = {}  # a plan may have thousands of trials

    def started(self, planned: PlannedTrial) -> None:
        """Note the start of an attempt."""
        self._running[planned.number] = _Running(planned, self._clock())

    def batch_timed(self, planned: PlannedTrial, batch_s: float) -> None:
        """Note the time of a batch, in seconds."""
        point = planned.point
        known = self._batches.setdefault(_kind(point), {})
        if _items(point) not in known:  # later trials of a point tell little more
            known[_items(point)] = batch_s
            self._ranges.clear()

    def attempt_ended(self, planned: PlannedTrial) -> None:
        """Note the end of an attempt, which may be tried again."""
        running = self._running.pop(planned.number, None)
        if running is not None:
            self._ended_s[planned.key] = self._clock() - running.began_s

    def decided(self, planned: PlannedTrial, measured: bool) -> None:
        """Note that a trial has its row, whether it was measured or not."""
        own = self._open.get(planned.number)
        if own is not None and own.point_index == planned.point_index:  # else of no plan
            del self._open[planned.number]
            point = planned.point
        else:  # of a search: its next trials take as long
            point = self._probes.get(planned.point_index, planned.point)
        if measured and planned.key in self._ended_s:
            self._took_s[point.id] = self._ended_s[planned.key]
            self._ranges.pop(point.id, None)

    def searches_advanced(self, ahead: Mapping[int, TrialsAhead]) -> None:
        """Note how many trials searches still take; those that are not named, none."""
        self._ahead = dict(ahead)

    def of_trial(self, planned: PlannedTrial) -> TimeRange:
        """Return how long a trial takes from its start to its end."""
        return self._of_point(planned.point)

    def _of_point(self, point: Point) -> TimeRange:
        if point.id not in self._ranges:
            took_s = self._took_s.get(point.id)
            self._ranges[point.id] = (
                trial_range(point, self._batch(point))
                if took_s is None
                else TimeRange(took_s / NEAR, took_s * NEAR)
            )
        return self._ranges[point.id]

    def left(self) -> TimeRange:
        """Return how long the trials take that have no row yet, less what has passed of them."""
        return self.of(self._open.values())

    def of(self, trials: Iterable[PlannedTrial]) -> TimeRange:
        """Return how long some trials of the plan take, and with them all searches of the run."""
        now = self._clock()
        ranges = []
        for planned in trials:
            running = self._running.get(planned.number)
            whole = self.of_trial(running.planned if running else planned)
            ranges.append((planned.point, whole.after(now - running.began_s if running else 0.0)))
        began_s = {run.planned.point_index: run.began_s for run in self._running.values()
                   if run.planned.number not in self._open}  # fmt: skip
        for index, ahead in self._ahead.items():
            one = self._of_point(self._probes[index])
            whole = TimeRange(one.shortest_s * ahead.least, one.longest_s * ahead.most)
            ranges.append((self._probes[index], whole.after(now - began_s.get(index, now))))
        return in_parallel(self._plan, ranges)

    def _batch(self, point: Point) -> TimeRange:
        """Return how long a batch of a point takes, by the best evidence that there is."""
        kind, size = _kind(point), _items(point)
        macs = self._plan.macs_per_item.get(point.model)
        if known := self._batches.get(kind):
            return _scaled(known, size)
        rates = [] if not macs else list(self._rates(kind.engine))
        if rates and macs:
            batch_s = [macs * size / rate for rate in (max(rates), min(rates))]
            return TimeRange(batch_s[0] / FAR, batch_s[1] * FAR)
        return guess_batch(point, macs)

    def _rates(self, engine: tuple[object, ...]) -> Iterable[float]:
        """Return the multiply-accumulates a second that the networks of an engine reached."""
        for kind, batches in self._batches.items():
            macs = self._plan.macs_per_item.get(kind.model)
            if kind.engine == engine and macs:
                yield from (macs * size / batch_s for size, batch_s in batches.items() if batch_s)


def _probe(base: Point) -> Point:
    """Return what stands for the trials of a search, whose rates follow from what it finds."""
    return replace(base, load=f"{START:g}")


def _items(point: Point) -> int:
    """Return how many items a device computes at the same time: a batch of each engine on it."""
    return point.batch_size * point.instances


def _kind(point: Point) -> _Kind:
    engine = (point.engine, point.engine_options, point.precision, point.device, point.accelerator)
    return _Kind(point.model, engine)


def _scaled(known: Mapping[int, float], size: int) -> TimeRange:
    """Return how long a batch of a size takes by those that are known.

    A larger batch takes at least as long, and longer at most in proportion.
    """
    nearest = min(known, key=lambda other: abs(other - size))
    batch_s, growth = known[nearest], size / nearest
    return TimeRange(batch_s * min(growth, 1.0) / NEAR, batch_s * max(growth, 1.0) * NEAR)
