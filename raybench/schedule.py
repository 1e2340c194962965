"""Plan: which points run, how often, in which order, and which cannot run here."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.experiment import Experiment, Point

PREPARE_S = 4.0
"""Time to start the workers of a point and to load a cached model, for the estimate only."""


@dataclass(frozen=True)
class Step:
    """One trial of one point. `index` is the point's place in the plan, `trial` counts from 0."""

    point: Point
    index: int
    trial: int


@dataclass(frozen=True)
class Plan:
    """All steps of an experiment, in order.

    Attributes:
        points: every point, in the order of the file.
        steps: trials of points that can run here.
        infeasible: why a point cannot run here, by its id.
    """

    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    infeasible: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """Least time that the steps take: preparation, shortest warm-up, shortest window."""
        return sum(
            PREPARE_S + step.point.measure.warmup_min_s + step.point.measure.min_s
            for step in self.steps
        )


def plan(experiment: Experiment, points: Sequence[Point], devices: Mapping[str, int]) -> Plan:
    """Order the trials of all points.

    Trials come in rounds: each round visits every point once, in a seeded order of its own, so
    that a drift of the surroundings does not fall on one factor (`order: interleaved`).

    Args:
        experiment: gives trials, order and seed.
        points: from `expand`.
        devices: number of devices of each kind.
    """
    infeasible = {
        point.id: _shortage(point, devices)
        for point in points
        if point.workers > devices.get(point.device, 0)
    }
    indices = [i for i, point in enumerate(points) if point.id not in infeasible]
    steps: list[Step] = []
    for trial in range(experiment.trials):
        visit = list(indices)
        if experiment.order == "interleaved":
            random.Random(f"{experiment.seed}/{trial}").shuffle(visit)
        steps += [Step(points[i], i, trial) for i in visit]
    return Plan(tuple(points), tuple(steps), infeasible)


def _shortage(point: Point, devices: Mapping[str, int]) -> str:
    what = {"gpu": "GPUs", "cpu": "CPU cores"}[point.device]
    return (
        f"workers={point.workers} needs {point.workers} {what} and the cluster has "
        f"{devices.get(point.device, 0)}. Use fewer workers or a larger cluster."
    )
