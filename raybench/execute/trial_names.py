"""What the trials of a plan are called: by what distinguishes them, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from raybench.analysis.series import Series
from raybench.experiment import ANY, CLOSED, METHOD_VERSION, SYNTHETIC
from raybench.report.labels import LARGEST, Naming, factor_label, joined, workers_label
from raybench.results.search_trials import AGAIN, CONFIRMING, role

if TYPE_CHECKING:
    from raybench.experiment import Point
    from raybench.planning.plan import Plan, PlannedTrial

_PURPOSES = {"measure": "", "fit": "try ", "prepare": "prepare "}


class TrialNames:
    """Names of the trials of a plan: the model, and the factors in which its points differ.

    The factors are chosen once, by the rule that labels of series follow, so that a progress line,
    the live display, tables and reports name a point by the same factors.

    Args:
        plan: of the run.

    Attributes:
        common: what all points share, in words; empty for a single point of nothing but a model.
    """

    def __init__(self, plan: Plan) -> None:
        self._naming = Naming([_series(point) for point in plan.points])
        self._loads = {point.load for point in plan.points}
        self._builds = 1 + max((point.build for point in plan.points), default=0)
        self._built = {point.engine for point in plan.points if point.build}
        counts = {point.workers for point in plan.points}
        self._by_workers = len(counts) > 1
        self._trials: dict[int, int] = {}
        """Trials of a point, by its place in the plan: those of one worker may run on each device."""
        for planned in plan.trials:
            if planned.point.load in self._loads:
                most = self._trials.get(planned.point_index, 1)
                self._trials[planned.point_index] = max(most, planned.trial + 1)
        workers = "" if self._by_workers else workers_label(next(iter(counts), None))
        self.common = joined(self._naming.same, workers)

    def name(self, planned: PlannedTrial) -> str:
        """Return the name of a trial; with several trials it says which of them it is."""
        point = planned.point
        varying = self._naming.label(_series(point), without=("model",))
        found = point.largest and point.batch_size > 1
        asked = point.load not in self._loads  # by a search for the highest rate
        trials = self._trials.get(planned.point_index, 1)
        trial = f"trial {planned.trial + 1} of {trials}" if trials > 1 else ""
        build = f"build {point.build + 1} of {self._builds}" if point.engine in self._built else ""
        if asked:
            confirms = role(planned.trial)
            trial = f"confirming {confirms} of {CONFIRMING}" if confirms else "probe"
            trial += " again" * (planned.trial >= AGAIN)
        name = joined(
            point.model,
            varying,
            factor_label("batch_size", point.batch_size) if found else "",
            factor_label("load", point.load) if asked else "",
            workers_label(point.workers) if self._by_workers else "",
            build,
            trial,
        )
        if planned.purpose == "fit" and "batch_size" not in self._naming.varying:
            name = joined(name, factor_label("batch_size", point.batch_size))
        return _PURPOSES[planned.purpose] + name


def _series(point: Point) -> Series:
    """Return the series of a point as far as it is known before anything has run."""
    kind = {"gpu": "GPU", "cpu": "CPU core"}[point.device]
    is_shared = point.load != CLOSED and point.measure.balancer != "split"
    series = Series(
        model=point.model,
        precision=point.precision,
        batch_size=point.batch_size,
        engine=point.engine,
        engine_version=None,
        engine_options=json.dumps(dict(point.engine_options), sort_keys=True, default=str),
        device=kind if point.accelerator == ANY else point.accelerator,
        inflight=point.inflight,
        transfers=point.transfers,
        memory_limit_bytes=point.memory_limit_bytes,
        preset=point.preset,
        simulated=point.engine == "simulated",
        environment_id=None,
        method_version=METHOD_VERSION,
        inputs=SYNTHETIC if point.inputs is None else str(point.inputs),
        load=point.load,
        instances=point.instances,
        mps=None,
        balancer=point.measure.balancer if is_shared else None,
        power_limit_w=point.power_limit_w,
        prompt=point.prompt,
        context=point.context,
        new_tokens=point.new_tokens,
        pipeline=point.pipeline,
        cores=point.cores,
    )
    return replace(series, batch_size=LARGEST) if point.largest else series
