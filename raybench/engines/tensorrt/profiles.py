"""Layer times of a plan, from TensorRT's profiler and inspector in a run of their own."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import Any

from raybench.engines.base import Layer


@dataclass
class Profile:
    """Layer times as the library reports them, batch by batch.

    Attributes:
        context: the execution context that is profiled.
        passes: (layer, milliseconds) in order of execution, for each finished batch.
    """

    context: Any
    passes: list[list[tuple[str, float]]] = field(default_factory=list)
    _fresh: list[tuple[str, float]] = field(default_factory=list)

    def add(self, layer: str, ms: float) -> None:
        """Add one layer of the running batch."""
        self._fresh.append((layer, ms))

    def close_batch(self) -> None:
        """Make the context report the times of the finished batch."""
        self.context.report_to_profiler()
        self.passes.append(self._fresh)
        self._fresh = []

    def layers(self, facts: dict[str, dict[str, Any]]) -> tuple[Layer, ...]:
        """Return medians over all batches but the first, with the inspector's facts by layer."""
        complete = [times for times in self.passes[1:] if len(times) == len(self.passes[-1])]
        return tuple(_layer(list(times), facts) for times in zip(*complete, strict=True))


def attach(trt: Any, context: Any) -> Profile:
    """Make a context report its layers from the next batch on."""
    profile = Profile(context)

    class Reporter(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # required by the binding

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            profile.add(layer_name, ms)

    context.profiler = Reporter()
    context.enqueue_emits_profile = False
    return profile


def inspect(trt: Any, context: Any) -> dict[str, dict[str, Any]]:
    """Return the inspector's facts about each layer by its name.

    Empty for a plan built without details, and with the lean runtime of 8.6, which has no inspector.
    """
    engine = context.engine
    if not hasattr(engine, "create_engine_inspector"):
        return {}
    try:
        inspector = engine.create_engine_inspector()
    except RuntimeError:  # the lean runtime of 8.6 has the call but no implementation
        return {}
    inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers = json.loads(text, strict=False).get("Layers", [])  # 8.6 leaves raw tabs in strings
    return {layer["Name"]: layer for layer in layers if isinstance(layer, dict)}


def _layer(times: list[tuple[str, float]], facts: dict[str, dict[str, Any]]) -> Layer:
    name = times[0][0]
    info = facts.get(name)
    return Layer(
        name=name,
        kind=None if info is None else info.get("LayerType"),
        time_ns=round(statistics.median(ms for _, ms in times) * 1e6),
        info_json=None if info is None else json.dumps(info),
    )
