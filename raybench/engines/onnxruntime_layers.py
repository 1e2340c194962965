"""The layers in a profile that ONNX Runtime wrote."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from raybench.engines.base import Layer

_KERNEL_TIME = "_kernel_time"


def read_layers(path: str) -> tuple[Layer, ...]:
    """Return the median time of each node over all batches but the first.

    Args:
        path: of the profile, a JSON document with an event for each node and batch.
    """
    by_node: dict[str, list[Any]] = {}
    for event in json.loads(Path(path).read_text(encoding="utf-8")):
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL_TIME):
            by_node.setdefault(event["name"].removesuffix(_KERNEL_TIME), []).append(event)
    return tuple(_layer(name, of_node[1:]) for name, of_node in by_node.items())


def _layer(name: str, events: list[Any]) -> Layer:
    """Return the layer of a node from its events, one for each batch, in microseconds."""
    time_ns = statistics.median(event["dur"] for event in events) * 1e3
    facts = events[0]["args"]
    info = {key: facts[key] for key in ("provider", "output_type_shape") if key in facts}
    return Layer(name, facts.get("op_name"), round(time_ns), json.dumps(info))
