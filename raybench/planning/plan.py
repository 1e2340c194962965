"""Plan: which points run, how often, in which order, and which cannot run here."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from raybench.engines import registry
from raybench.engines.base import BuildsAhead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from raybench.experiment import Experiment, Point
    from raybench.planning.slots import DeviceSlot

PREPARE_S = 4.0
"""Time to start the workers of a point and to load a cached model, for the estimate only."""

WINDOW = 16
"""Steps that may be sorted by size when points share a node; the order of windows stays random."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of one point.

    Attributes:
        index: the point's place in the plan.
        trial: from 0.
        number: the step's place in the plan.
        device: which device of its kind, in the order of nodes and numbers; None for any.
        among: seats on one of which a preparation is to run, all of one kind; empty for any.
        purpose: "measure"; "fit" only asks whether the point fits, "prepare" only makes what the
            node then has: neither leaves a row.
    """

    point: Point
    index: int
    trial: int
    number: int = 0
    device: int | None = None
    purpose: Literal["measure", "fit", "prepare"] = "measure"
    among: tuple[DeviceSlot, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All steps of an experiment, in order.

    Attributes:
        points: every point, in the order of the file.
        steps: trials of points that can run here.
        infeasible: why a point cannot run here, by its id.
        side_by_side: devices that may be at work for different points at the same time.
    """

    points: tuple[Point, ...]
    steps: tuple[PlannedTrial, ...]
    infeasible: Mapping[str, str]
    side_by_side: int = 1

    @property
    def seconds(self) -> float:
        """Least time that the steps take: preparation, shortest warm-up, shortest window."""
        return self._lasting(
            [s.point.measure.warmup_min_s + s.point.measure.min_s for s in self.steps]
        )

    @property
    def longest_seconds(self) -> float:
        """The time with the longest warm-up and window, when nothing has to be built or retried."""
        return self._lasting(
            [s.point.measure.warmup_max_s + s.point.measure.max_s for s in self.steps]
        )

    def _lasting(self, streams_s: list[float]) -> float:
        times = [PREPARE_S + stream_s for stream_s in streams_s]
        if self.side_by_side == 1:
            return sum(times)
        shares = (s * step.point.workers for s, step in zip(times, self.steps, strict=True))
        return max(sum(shares) / self.side_by_side, max(times, default=0.0))


def plan(
    experiment: Experiment,
    points: Sequence[Point],
    devices: Mapping[str, int],
    isolation: str = "node",
) -> Plan:
    """Order the trials of all points.

    Trials come in rounds: each round visits every point once, in a seeded order of its own, so
    that a drift of the surroundings does not fall on one factor (`order: interleaved`). In the
    first round the batches of a series come from small to large, so that memory that runs out
    ends the series. Where points share a node (`isolation: gpu`) neighbours in the order are
    sorted by size, so that the devices are packed.

    Args:
        experiment: gives trials, order and seed.
        points: from `expand`.
        devices: number of devices of each kind.
        isolation: cluster, node or gpu.
    """
    infeasible = {
        point.id: _shortage(point, devices)
        for point in points
        if point.workers > devices.get(point.wants, 0)
    }
    indices = [i for i, point in enumerate(points) if point.id not in infeasible]
    steps: list[PlannedTrial] = []
    for trial in range(experiment.trials):
        visit = list(indices)
        if experiment.order == "interleaved":
            random.Random(f"{experiment.seed}/{trial}").shuffle(visit)
            if isolation == "gpu":
                visit = _there_and_back(points, visit)
            if trial == 0:
                visit = _small_batches_first(points, visit)
        for i in visit:
            for each, device in _devices(experiment, points[i], trial, devices):
                steps.append(PlannedTrial(points[i], i, each, len(steps), device))
    side_by_side = max(devices.values(), default=1) if isolation == "gpu" else 1
    return Plan(tuple(points), tuple(steps), infeasible, side_by_side)


def _devices(
    experiment: Experiment, point: Point, trial: int, devices: Mapping[str, int]
) -> list[tuple[int, int | None]]:
    """Trials of a point in one round, each with its device; several when devices are alone.

    Trial k of a point that is measured alone is on device k modulo their number, so that more
    trials or another run go on where these ended.
    """
    if not experiment.solo or point.workers > 1:
        return [(trial, None)]
    there = devices[point.device]
    return [(trial * there + device, device) for device in range(there)]


def preparations(
    steps: Sequence[PlannedTrial], kinds: Iterable[Sequence[DeviceSlot]] = ()
) -> tuple[PlannedTrial, ...]:
    """A step on one device for each graph that steps share, and for each plan on each kind of device.

    They run before anything is measured, all devices at work: a graph that is quantised or a plan
    that is built beside a measurement would disturb it, and one after another they take longer.

    Args:
        steps: that will be measured.
        kinds: seats that are held, those together whose nodes can use the same plan.
    """
    kinds = tuple(kinds)
    shared: dict[Any, PlannedTrial] = {}
    for step in steps:
        point = step.point
        if not registry.get(point.engine).reads_graph:
            continue
        graph = (point.engine, point.engine_options, point.model_identity, point.precision)
        key = (*graph, _plan_of(point))
        alone = replace(point, workers=1, largest=False)
        shared.setdefault(key, replace(step, point=alone, device=None, purpose="prepare"))
    return tuple(
        replace(step, among=among)
        for step in shared.values()
        for among in (_suited(step.point, kinds) if builds_ahead(step.point) else [()])
    )


def builds_ahead(point: Point) -> bool:
    """Whether the point's engine keeps plans."""
    return issubclass(registry.get(point.engine), BuildsAhead)


def _plan_of(point: Point) -> tuple[int, str] | None:
    """What decides a point's plan beside its graph; None for an engine that keeps none."""
    engine = registry.get(point.engine)
    if not issubclass(engine, BuildsAhead):
        return None
    options = engine.Settings(**dict(point.engine_options))
    return engine.plan_batch(options, point.batch_size), point.accelerator


def _suited(point: Point, kinds: Iterable[Sequence[DeviceSlot]]) -> list[tuple[DeviceSlot, ...]]:
    """The seats of each kind that has devices such as the point wants; any, where none is told."""
    suited = [tuple(seat for seat in kind if seat.suits(point.wants)) for kind in kinds]
    return [seats for seats in suited if seats] or [()]


def standing(plan: Plan, finals: Mapping[tuple[str, int], str]) -> dict[tuple[str, int], str]:
    """Those of the statuses found by (point_id, trial) that still stand.

    What was infeasible because devices were missing or because a smaller batch ran out of memory
    is so no longer when the devices are back, or the smaller batch is to be measured again.
    """
    full: dict[str, int] = {}
    for step in plan.steps:
        point = step.point
        if finals.get((point.id, step.trial)) == "out_of_memory" and not point.largest:
            full[point.series] = min(point.batch_size, full.get(point.series, point.batch_size))
    can_run = {
        (step.point.id, step.trial)
        for step in plan.steps
        if step.point.batch_size <= full.get(step.point.series, step.point.batch_size)
    }
    return {
        key: status
        for key, status in finals.items()
        if status != "infeasible" or key not in can_run
    }


def _there_and_back(points: Sequence[Point], visit: list[int]) -> list[int]:
    """Sort windows of the order by size, large to small and small to large in turn.

    Equal sizes then meet at the borders, so that few devices wait for a gang to end.
    """
    ordered: list[int] = []
    for k in range(0, len(visit), WINDOW):
        window = visit[k : k + WINDOW]
        window.sort(key=lambda i: points[i].workers, reverse=k // WINDOW % 2 == 0)
        ordered += window
    return ordered


def _small_batches_first(points: Sequence[Point], visit: list[int]) -> list[int]:
    """The same order of series, each with its batches from small to large in its places."""
    waiting: dict[str, list[int]] = {}
    for i in sorted(visit, key=lambda i: (points[i].largest, points[i].batch_size), reverse=True):
        waiting.setdefault(points[i].series, []).append(i)
    return [waiting[points[i].series].pop() for i in visit]


def _shortage(point: Point, devices: Mapping[str, int]) -> str:
    return (
        f"workers={point.workers} needs {point.workers} {named(point.wants)} and the cluster has "
        f"{devices.get(point.wants, 0)}. Use fewer workers or a larger cluster."
    )


def named(wants: str) -> str:
    """Devices in words: "GPUs", "CPU cores", "GPUs of type H100"."""
    kind, _, accelerator = wants.partition("/")
    what = {"gpu": "GPUs", "cpu": "CPU cores"}[kind]
    return f"{what} of type {accelerator}" if accelerator else what
