"""Building ahead: graphs, fp32 outputs and plans of an experiment, in this machine's cache."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.engines import registry
from raybench.engines.base import BuildsAhead
from raybench.errors import EngineUnavailable, PointError
from raybench.experiment import ANY
from raybench.machine import devices
from raybench.models.cache import cache_dir
from raybench.planning.preparations import preparations
from raybench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.experiment import Experiment
    from raybench.planning.plan import Plan, PlannedTrial


@dataclass(frozen=True)
class BuiltAhead:
    """What became of one preparation.

    Attributes:
        planned: the preparation.
        seconds: time that it took.
        files: of the plan, in the cache; none for an engine without plans, and after an error.
        plan_bytes: their size.
        found: the plan was in the cache already.
        error: why there is none.
    """

    planned: PlannedTrial
    seconds: float
    files: tuple[str, ...] = ()
    plan_bytes: int = 0
    found: bool = False
    error: PointError | None = None


def with_gpus_elsewhere(here: Mapping[str, int], experiment: Experiment) -> dict[str, int]:
    """Return the devices here with as many GPUs, of the types that are named, as the experiment asks for."""
    workers = [n for grid in experiment.grids for n in grid["workers"] if isinstance(n, int)]
    count = max(1, here.get("gpu", 0), *workers)
    types = {name for grid in experiment.grids for name in grid["accelerator"]} - {ANY, "auto"}
    return {**here, "gpu": count} | {f"gpu/{name}": count for name in types}


def to_build(plan: Plan) -> tuple[PlannedTrial, ...]:
    """Return the preparations of a plan, each thing once; what a batch search decides is left out.

    Raises:
        EngineUnavailable: an engine's library is missing, or it builds on the GPU that it builds for
            and there is none here.
    """
    planned = preparations([one for one in plan.trials if not one.point.largest])
    for point in (one.point for one in planned):
        engine = registry.get(point.engine)
        if issubclass(engine, BuildsAhead) and (missing := engine.builder_missing()):
            raise EngineUnavailable(missing)
        if point.device == "gpu" and not builds_anywhere(point.engine) and not devices.gpu_count():
            raise EngineUnavailable(
                f"Engine {point.engine!r} builds on the GPU that it builds for, and there is none "
                "here. Build on a node with one, or use engine=tensorrt_rtx."
            )
    return planned


def builds_anywhere(engine: str) -> bool:
    """Return whether an engine builds plans for devices that are not here."""
    engine_class = registry.get(engine)
    return issubclass(engine_class, BuildsAhead) and engine_class.builds_anywhere


def build_ahead(planned: Sequence[PlannedTrial], seed: int) -> Iterator[BuiltAhead]:
    """Build one after another, in this process, and yield what became of each.

    Args:
        planned: from `to_build`.
        seed: of the synthetic batches.
    """
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # as Ray does for a worker
    worker, cores = Worker("build"), devices.cores()
    try:
        for one in planned:
            yield _build(worker, one, seed)
    finally:
        devices.pin(list(cores))  # a worker keeps to the cores of its device


def _build(worker: Worker, one: PlannedTrial, seed: int) -> BuiltAhead:
    began, began_ns = time.perf_counter(), time.time_ns()
    slot = None if builds_anywhere(one.point.engine) else 0
    try:
        files = worker.build(one.point, slot, seed)
    except PointError as error:
        return BuiltAhead(one, time.perf_counter() - began, error=error)
    facts = [(cache_dir() / file).stat() for file in files]
    found = bool(facts) and max(fact.st_mtime_ns for fact in facts) < began_ns
    size = sum(fact.st_size for fact in facts)
    return BuiltAhead(one, time.perf_counter() - began, files, size, found)
