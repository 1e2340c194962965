"""Preparations: graphs and engine plans that are built once, before the first measurement."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raybench.engines import registry
from raybench.engines.base import BuildsAhead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.experiment import Point
    from raybench.planning.plan import PlannedTrial
    from raybench.planning.slots import DeviceSlot


def preparations(
    trials: Sequence[PlannedTrial], kinds: Iterable[Sequence[DeviceSlot]] = ()
) -> tuple[PlannedTrial, ...]:
    """Return a preparation for each graph, and for each engine plan on each kind of node.

    They run before the first measurement, on all devices at once. Quantising a graph or building
    a plan during a measurement would disturb it, and one after another they take longer.

    Args:
        trials: that will be measured.
        kinds: the slots that are held, grouped by nodes that can use the same plans.
    """
    kinds = tuple(kinds)
    distinct: dict[Any, PlannedTrial] = {}
    for planned in trials:
        point = planned.point
        if not registry.get(point.engine).traits.reads_graph:
            continue
        graph = (point.engine, point.engine_options, point.model_identity, point.precision)
        key = (*graph, _engine_plan(point))
        one_worker = replace(point, workers=1, largest=False)
        distinct.setdefault(key, replace(planned, point=one_worker, devices=(), purpose="prepare"))
    return tuple(
        replace(planned, allowed_slots=slots)
        for planned in distinct.values()
        for slots in (_suitable(planned.point, kinds) if builds_ahead(planned.point) else [()])
    )


def builds_ahead(point: Point) -> bool:
    """Return whether the point's engine keeps plans that can be built ahead."""
    return issubclass(registry.get(point.engine), BuildsAhead)


def _engine_plan(point: Point) -> tuple[int, str, int] | None:
    """Return what distinguishes engine plans of one graph; None for an engine without plans."""
    engine = registry.get(point.engine)
    if not issubclass(engine, BuildsAhead):
        return None
    options = engine.traits.settings(**dict(point.engine_options))
    return engine.plan_batch(options, point.batch_size), point.accelerator, point.build


def _suitable(point: Point, kinds: Iterable[Sequence[DeviceSlot]]) -> list[tuple[DeviceSlot, ...]]:
    """Return the suitable slots of each kind that has any; one empty tuple if none has."""
    suitable = [tuple(slot for slot in kind if slot.suits(point.wants)) for kind in kinds]
    return [slots for slots in suitable if slots] or [()]
