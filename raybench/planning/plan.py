"""The plan: which points run, how often and in which order, or why they are refused."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from raybench.engines import registry
from raybench.errors import ClusterError, ModelError
from raybench.experiment import CLOSED
from raybench.models import source
from raybench.models.items.input_files import inspect, sized
from raybench.models.items.jpegs import refuse_unfit_for_pipelines
from raybench.planning.builds import builds_remarks
from raybench.planning.estimates import TimeLeft
from raybench.planning.expansion import expand
from raybench.planning.slots import describe
from raybench.planning.state_limits import refuse_arrivals, refuse_given_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raybench.experiment import Experiment, ModelSettings, Point
    from raybench.models.model import FileBatch
    from raybench.models.source import CheckedModel
    from raybench.planning.estimates import TimeRange
    from raybench.planning.slots import DeviceSlot

WINDOW = 16
"""Trials that may be sorted by size when points share a node; the order of windows stays random."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of one point, in the plan.

    Attributes:
        point_index: place of the point in the plan.
        trial: which repeat of the point, from 0.
        number: place of this trial in the plan, from 0.
        devices: which devices of their kind, in the order of nodes and numbers; empty for any.
        purpose: "measure" gives a row. "fit" only tries whether the batch fits, "prepare" only
            builds what later trials find in the cache of the node; neither gives a row.
        allowed_slots: a preparation runs on one of these, all of one kind; empty for any.
    """

    point: Point
    point_index: int
    trial: int
    number: int = 0
    devices: tuple[int, ...] = ()
    purpose: Literal["measure", "fit", "prepare"] = "measure"
    allowed_slots: tuple[DeviceSlot, ...] = ()

    @property
    def key(self) -> tuple[str, int]:
        """What identifies the trial's row in the store: point id and trial."""
        return (self.point.id, self.trial)

    @property
    def attempt_key(self) -> tuple[str, int, str]:
        """What attempts are counted by: a probe is not a trial of the same batch in the grid."""
        return (self.point.id, self.trial, self.purpose)


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment, in order.

    Attributes:
        points: every point, in the order of the file.
        trials: of the points that can run here.
        infeasible: why a point cannot run here, by its id.
        concurrent_devices: devices that may be used by different points at the same time.
        remarks: what to say before the start of files that are fixed to a batch.
        macs_per_item: multiply-accumulates of each model that are known, for estimates of time.
        searched: places of the points for which the highest rate under a latency bound is searched.
    """

    points: tuple[Point, ...]
    trials: tuple[PlannedTrial, ...]
    infeasible: Mapping[str, str]
    concurrent_devices: int = 1
    remarks: tuple[str, ...] = ()
    macs_per_item: Mapping[str, int] = field(default_factory=dict)
    searched: tuple[int, ...] = ()

    @property
    def shortest_s(self) -> float:
        """Time that all trials take with the shortest warm-up and window on a fast device."""
        return self._duration.shortest_s

    @property
    def longest_s(self) -> float:
        """Time with the longest warm-up and window on a slow device, if nothing is retried."""
        return self._duration.longest_s

    @cached_property
    def _duration(self) -> TimeRange:
        return TimeLeft(self, lambda: 0.0).left()


def _can_run(_point: Point) -> None:
    """Know of nothing that a point lacks."""


def make_plan(
    experiment: Experiment,
    devices: Mapping[str, int],
    isolation: str,
    available: str,
    lacking: Callable[[Point], str | None] = _can_run,
) -> Plan:
    """Check the models of an experiment and their inputs, and plan its trials.

    Args:
        experiment: with every engine resolved.
        devices: number of devices of each kind.
        isolation: cluster, node or gpu.
        available: description of the devices, for the error message.
        lacking: returns what beside devices a point needs and the nodes do not have; None for nothing.

    Raises:
        UsageError: a model or its inputs are unknown or broken, or no point can run on these devices.
    """
    names = dict.fromkeys(name for grid in experiment.grids for name in grid["model"])
    real = bool(experiment.model.inputs)
    settings = {name: _settings(experiment, name) for name in names}
    checked = {
        name: source.check(name, settings[name], precisions_of(experiment, name)) for name in names
    }
    for name in names:
        refuse_given_state(name, settings[name], checked[name])
    identities = {name: source.identity(name, settings[name]) for name in names}
    inputs = {name: inspect(name, settings[name], checked[name]) for name in names if real}
    points = expand(experiment, devices, identities)
    if real:
        points = tuple(
            replace(point, model_settings=settings[point.model], inputs=inputs[point.model])
            for point in points
        )
    refuse_arrivals(points, checked)
    refuse_unfit_for_pipelines(points, {name: model.inputs for name, model in checked.items()})
    plan = order_trials(experiment, points, devices, isolation, lacking)
    if not plan.trials:
        raise ClusterError(
            f"No point of {experiment.name!r} can run: {next(iter(plan.infeasible.values()))} "
            f"{available}."
        )
    return replace(
        plan,
        remarks=(
            *builds_remarks(experiment, plan.points),
            *dict.fromkeys(note for model in checked.values() for note in model.notes),
            *_remarks(plan.points, {name: model.file_batch for name, model in checked.items()}),
        ),
        macs_per_item=_macs(plan.points, checked),
    )


def _macs(points: Sequence[Point], checked: Mapping[str, CheckedModel]) -> dict[str, int]:
    """Return the multiply-accumulates of the models that an engine computes, where known."""
    computed = {point.model for point in points if registry.get(point.engine).traits.reads_graph}
    counts = {name: checked[name].macs_per_item for name in computed}
    return {name: macs for name, macs in counts.items() if macs}


def _settings(experiment: Experiment, model: str) -> ModelSettings:
    """Return the settings of a model, with the sizes of its real inputs where it has any."""
    settings = experiment.model
    return sized(model, settings) if settings.inputs else settings


def _remarks(points: Sequence[Point], fixed: Mapping[str, FileBatch | None]) -> tuple[str, ...]:
    """Return what to say of the points whose batch is not that of their file.

    Raises:
        ModelError: no point can run with its batch.
    """
    refused, remarks = [], []
    for point in points:
        batch = fixed[point.model]
        if batch is None or not registry.get(point.engine).traits.reads_graph:
            continue
        size = None if point.largest else point.batch_size
        reason = batch.refusal(point.model, size)
        if reason is not None:
            refused.append(reason)
        elif batch.note(size) is not None:
            remarks.append(
                f"Model {point.model!r} is fixed to batch {batch.size} in its file; other batches run it "
                f"reshaped, batch_size={batch.size} runs it unchanged."
            )
    if len(refused) == len(points):
        raise ModelError(refused[0])
    return tuple(dict.fromkeys([*remarks, *(f"Unsupported here: {why}" for why in refused)]))


def precisions_of(experiment: Experiment, model: str) -> tuple[str, ...]:
    """Return the precisions that a model is asked for, without those that `exclude` drops for it."""
    asked = (
        precision
        for grid in experiment.grids
        if model in grid["model"]
        for precision in grid["precision"]
    )
    rules = [rule for rule in experiment.exclude if rule.keys() <= {"model", "precision"}]

    def dropped(precision: str) -> bool:
        cell = {"model": model, "precision": precision}
        return any(all(cell[axis] in values for axis, values in rule.items()) for rule in rules)

    return tuple(dict.fromkeys(precision for precision in asked if not dropped(precision)))


def order_trials(
    experiment: Experiment,
    points: Sequence[Point],
    devices: Mapping[str, int],
    isolation: str = "node",
    lacking: Callable[[Point], str | None] = _can_run,
) -> Plan:
    """Order the trials of all points.

    Trials come in rounds. Each round visits every point once, in its own seeded order, so that a
    drift of the environment does not fall on one factor (`order: interleaved`). In the first round
    the batches of a series come from small to large, so that running out of memory ends the
    series. Where points share a node (`isolation: gpu`) neighbours in the order are sorted by
    size, so that the devices are packed.

    Args:
        experiment: gives the number of trials, the order and the seed.
        points: from `expand`.
        devices: number of devices of each kind.
        isolation: cluster, node or gpu.
        lacking: see `make_plan`.
    """
    reasons = {point.id: _shortage(point, devices) or lacking(point) for point in points}
    infeasible = {point_id: reason for point_id, reason in reasons.items() if reason}
    feasible = [i for i, point in enumerate(points) if point.id not in infeasible]
    trials: list[PlannedTrial] = []
    for round_number in range(experiment.trials):
        for i in _visit(experiment, points, feasible, round_number, isolation):
            for trial, chosen in _trials_of_round(experiment, points[i], round_number, devices):
                trials.append(PlannedTrial(points[i], i, trial, len(trials), chosen))
    concurrent_devices = max(devices.values(), default=1) if isolation == "gpu" else 1
    plan = Plan(tuple(points), tuple(trials), infeasible, concurrent_devices)
    return replace(plan, searched=_searched(experiment, points, feasible))


def _searched(
    experiment: Experiment, points: Sequence[Point], feasible: Sequence[int]
) -> tuple[int, ...]:
    """Return the places of the points whose highest rate under a latency bound is searched."""
    if not experiment.find_rate:
        return ()
    return tuple(i for i in feasible if points[i].load == CLOSED and not points[i].largest)


def _visit(
    experiment: Experiment,
    points: Sequence[Point],
    feasible: Sequence[int],
    round_number: int,
    isolation: str,
) -> list[int]:
    """Return the order in which a round visits the points, by index."""
    visit = list(feasible)
    if experiment.order == "interleaved":
        random.Random(f"{experiment.seed}/{round_number}").shuffle(visit)
        if isolation == "gpu":
            visit = _sort_windows_by_size(points, visit)
        if round_number == 0:
            visit = _capacity_first(points, _small_batches_first(points, visit))
    return visit


def _trials_of_round(
    experiment: Experiment, point: Point, round_number: int, devices: Mapping[str, int]
) -> list[tuple[int, tuple[int, ...]]]:
    """Return the trials of a point in one round, each with its devices.

    With `scaling.baseline: solo` a point of one worker has a trial on every device, and with `pairs` one
    of two workers has a trial on every pair. Trial k is on choice k modulo their number, so that
    more trials, or another run, continue where these ended.
    """
    chosen = (experiment.solo and point.workers == 1) or (experiment.pairs and point.workers == 2)
    if not chosen:
        return [(round_number, ())]
    choices = list(combinations(range(devices[point.wants]), point.workers))
    return [(round_number * len(choices) + k, choice) for k, choice in enumerate(choices)]


def still_final(plan: Plan, statuses: Mapping[tuple[str, int], str]) -> dict[tuple[str, int], str]:
    """Return the statuses in the store that need not be measured again.

    A trial that was infeasible for lack of devices or because a smaller batch ran out of memory
    can run when the devices are back or the smaller batch is to be measured again.

    Args:
        plan: of this run.
        statuses: of the rows in the store, by point id and trial.
    """
    limits: dict[str, int] = {}
    for planned in plan.trials:
        point = planned.point
        if statuses.get(planned.key) == "out_of_memory" and not point.largest:
            limits[point.series] = min(point.batch_size, limits.get(point.series, point.batch_size))
    can_run = {
        planned.key
        for planned in plan.trials
        if planned.point.batch_size <= limits.get(planned.point.series, planned.point.batch_size)
    }
    return {
        key: status
        for key, status in statuses.items()
        if status != "infeasible" or key not in can_run
    }


def _sort_windows_by_size(points: Sequence[Point], visit: list[int]) -> list[int]:
    """Sort windows of the order by size, alternately large to small and small to large.

    Equal sizes then meet at the borders, so that few devices wait for a large group to end.
    """
    ordered: list[int] = []
    for k in range(0, len(visit), WINDOW):
        window = visit[k : k + WINDOW]
        window.sort(key=lambda i: points[i].workers, reverse=k // WINDOW % 2 == 0)
        ordered += window
    return ordered


def _capacity_first(points: Sequence[Point], visit: list[int]) -> list[int]:
    """Move each point in closed loop before those whose load is a share of its rate."""
    if not any(point.is_share for point in points):
        return visit
    places = {points[i].id: i for i in visit}
    ordered: dict[int, None] = {}
    for i in visit:
        if points[i].is_share and points[i].closed.id in places:
            ordered.setdefault(places[points[i].closed.id])
        ordered.setdefault(i)
    return list(ordered)


def _small_batches_first(points: Sequence[Point], visit: list[int]) -> list[int]:
    """Sort the batches of each series from small to large within the places of the series."""
    waiting: dict[str, list[int]] = {}
    for i in sorted(visit, key=lambda i: (points[i].largest, points[i].batch_size), reverse=True):
        waiting.setdefault(points[i].series, []).append(i)
    return [waiting[points[i].series].pop() for i in visit]


def _shortage(point: Point, devices: Mapping[str, int]) -> str | None:
    """Return which devices a point lacks; None if there are enough."""
    there = devices.get(point.wants, 0)
    if point.workers <= there:
        return None
    advice = (
        "Use fewer workers or a larger cluster."
        if there
        else f"Use another engine than {point.engine}, another device, or a machine that has one."
    )
    return (
        f"workers={point.workers} needs {describe(point.wants, point.workers)} and the cluster has "
        f"{there}. {advice}"
    )
