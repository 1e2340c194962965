"""Profile: what TensorRT tells of each layer of a plan, in a run of its own."""

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
        context: the execution context that reports.
        passes: (layer, milliseconds) in order of execution, for each batch that is over.
    """

    context: Any
    passes: list[list[tuple[str, float]]] = field(default_factory=list)
    _fresh: list[tuple[str, float]] = field(default_factory=list)

    def add(self, layer: str, ms: float) -> None:
        """One layer of the batch that runs."""
        self._fresh.append((layer, ms))

    def close_batch(self) -> None:
        """Ask for the times of the batch that is done."""
        self.context.report_to_profiler()
        self.passes.append(self._fresh)
        self._fresh = []

    def layers(self, told: dict[str, dict[str, Any]]) -> tuple[Layer, ...]:
        """Medians over all batches but the first, with what the inspector tells."""
        kept = [one for one in self.passes[1:] if len(one) == len(self.passes[-1])]
        return tuple(_layer(list(same), told) for same in zip(*kept, strict=True))


def attach(trt: Any, context: Any) -> Profile:
    """Let a context report its layers from the next batch on."""
    profile = Profile(context)

    class Reporter(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # the binding insists on its own

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            profile.add(layer_name, ms)

    context.profiler = Reporter()
    context.enqueue_emits_profile = False
    return profile


def inspect(trt: Any, context: Any) -> dict[str, dict[str, Any]]:
    """The inspector's words on each layer by its name.

    Empty for a plan built without them, and with the lean runtime of 8.6, which has no inspector.
    """
    engine = context.engine
    if not hasattr(engine, "create_engine_inspector"):
        return {}
    try:
        inspector = engine.create_engine_inspector()
    except RuntimeError:  # the lean runtime of 8.6 has the call and nothing behind it
        return {}
    inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    layers = json.loads(text, strict=False).get("Layers", [])  # 8.6 leaves raw tabs in strings
    return {layer["Name"]: layer for layer in layers if isinstance(layer, dict)}


def _layer(same: list[tuple[str, float]], told: dict[str, dict[str, Any]]) -> Layer:
    name = same[0][0]
    info = told.get(name)
    return Layer(
        name=name,
        kind=None if info is None else info.get("LayerType"),
        time_ns=round(statistics.median(ms for _, ms in same) * 1e6),
        info_json=None if info is None else json.dumps(info),
    )
