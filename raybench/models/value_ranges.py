"""Values that half precision cannot hold, found by running the fp32 graph on a few items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.cpu_run import run
from raybench.models.element_types import scopes
from raybench.models.half_graph import HALF_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    Array = np.ndarray[Any, Any]

_MARGIN = 4
"""Real inputs may reach further than the items of the check."""

_SMALLEST = 2.0**-14
"""Below it half precision loses one bit with each power of two."""

_INFINITE = 1e30
"""A larger number stands for infinity, in a mask: half precision has that, too."""

_SQUARES_INSIDE = frozenset(
    {"LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization"}
    | {"MeanVarianceNormalization", "LpNormalization", "LpPool", "LRN", "ReduceL2"}
)
_SMALL_MATTERS = {"Log": 0, "Reciprocal": 0, "Div": 1}
"""Ops and the input whose smallest values make the largest results."""


def out_of_range(
    model: onnx.ModelProto, inputs: Mapping[str, Array], big: bool
) -> tuple[set[str], set[str]]:
    """Return the values that half precision cannot hold, and the nodes that would square theirs.

    The insides of subgraphs are not seen.

    Args:
        model: the fp32 graph with its weights; it is spoiled.
        inputs: a few items.
        big: whether the graph exceeds what one protobuf holds.

    Returns:
        Names of values, and the first outputs of nodes.
    """
    from onnx import TensorProto, numpy_helper

    top = scopes(model)
    floats = {name for name, kind in top.types.items() if kind == TensorProto.FLOAT}
    weights = {x.name: numpy_helper.to_array(x) for x in top.graph.initializer if x.name in floats}
    nodes = list(top.graph.node)
    largest, smallest = _extremes(model, sorted(floats - weights.keys()), inputs, big)
    values = {name for name, weight in weights.items() if _is_bad(_largest(weight), HALF_MAX)}
    values |= {name for name, value in largest.items() if _is_bad(value, HALF_MAX / _MARGIN)}
    squaring = set()
    for node in nodes:
        port = _SMALL_MATTERS.get(node.op_type)
        if port is not None and smallest.get(node.input[port], 1.0) < _SMALLEST:
            values.add(node.input[port])
        if node.op_type in _SQUARES_INSIDE:
            square = largest.get(node.input[0], 0.0) ** 2
            if square > HALF_MAX / _MARGIN:
                squaring.add(node.output[0])
    return values, squaring


def _is_bad(largest: float, limit: float) -> bool:
    return limit < largest < _INFINITE or 0 < largest < _SMALLEST


def _largest(weight: Array) -> float:
    return float(np.abs(weight).max(initial=0.0))


def _extremes(
    model: onnx.ModelProto, names: list[str], inputs: Mapping[str, Array], big: bool
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the largest and the smallest magnitude of each value.

    They are computed inside the graph, so that only one number a value is kept.
    """
    from onnx import helper

    graph, probes = model.graph, []
    for name in names:
        size = f"{name}/size"
        probes.append(helper.make_node("Abs", [name], [size]))
        probes += [
            helper.make_node(kind, [size], [f"{name}/{kind}"], keepdims=0)
            for kind in ("ReduceMax", "ReduceMin")
        ]
    graph.node.extend(probes)
    wanted = [probe.output[0] for probe in probes if probe.op_type != "Abs"]
    found = run(model, inputs, wanted, big)
    return (
        {name: float(found[f"{name}/ReduceMax"]) for name in names},
        {name: float(found[f"{name}/ReduceMin"]) for name in names},
    )
