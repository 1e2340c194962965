"""Values that half precision cannot hold, found by running the fp32 graph on a few items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.models.graph.cpu_run import run
from raybench.models.graph.element_types import scopes
from raybench.models.passes.half_graph import HALF_MAX
from raybench.models.passes.sines import sine_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

_MARGIN = 4
"""Real inputs may reach further than the items of the check."""

_SMALLEST = 2.0**-14
"""Below it half precision loses one bit with each power of two."""

_SINE_MAX = 16.0
"""A larger argument is off by more than 2^-8 after rounding, and so is its sine."""

_INFINITE = 1e30
"""A larger number stands for infinity, in a mask: half precision has that, too."""

_SQUARES_INSIDE = frozenset(
    {"LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization"}
    | {"MeanVarianceNormalization", "LpNormalization", "LpPool", "LRN", "ReduceL2"}
)
_HARMLESS = {
    **dict.fromkeys(("Add", "Sub", "Sum", "Max", "Min", "Clip"), (0, 1, 2)),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "LayerNormalization"), (2,)),
    "BatchNormalization": (2, 3),
}
"""Ops and the inputs at which a weight may be small, as it is only added or compared."""

_PROBE = "/raybench-probe/"
"""Stands in the name of what is computed of a value; exporters themselves write x/Abs and the like."""

_SMALL_MATTERS = {"Log": 0, "Reciprocal": 0, "Div": 1}
"""Ops and the input whose smallest values make the largest results."""


@dataclass(frozen=True)
class ValueRanges:
    """What a run of the fp32 graph has shown.

    Attributes:
        outputs: the graph's outputs.
        elements: number of elements of each float value; insides of subgraphs are not seen.
        unfit: values that half precision cannot hold, weights among them.
        exact: first outputs of the nodes that need fp32: whose squares, inside, exceed half precision,
            and sines of large arguments with all that computes these.
    """

    outputs: dict[str, Array]
    elements: dict[str, int]
    unfit: frozenset[str]
    exact: frozenset[str]


def value_ranges(
    load: Callable[[], onnx.ModelProto], inputs: Mapping[str, Array], big: bool
) -> ValueRanges:
    """Run the fp32 graph and return the ranges of its values.

    Args:
        load: reads the fp32 graph with its weights.
        inputs: a few items.
        big: whether the graph exceeds what one protobuf holds.
    """
    graph = _graph(load())
    kinds = ("ReduceMax", "ReduceMin", "Size")
    wanted = [*graph.outputs, *(f"{name}{_PROBE}{kind}" for kind in kinds for name in graph.values)]
    found = run(lambda: _probed(load(), graph.values), inputs, wanted, big)
    largest, smallest, elements = (
        {name: found[f"{name}{_PROBE}{kind}"].item() for name in graph.values} for kind in kinds
    )
    unfit = {name for name, size in largest.items() if _is_unfit(size, HALF_MAX / _MARGIN)}
    unfit |= graph.unfit_weights
    exact = sine_nodes(
        graph.nodes,
        graph.weight_dims,
        {name for name, size in largest.items() if size > _SINE_MAX},
    )
    for node in graph.nodes:
        port = _SMALL_MATTERS.get(node.op_type)
        if port is not None and smallest.get(node.input[port], 1.0) < _SMALLEST:
            unfit.add(node.input[port])
        if node.op_type in _SQUARES_INSIDE:
            square = largest.get(node.input[0], 0.0) ** 2
            if square > HALF_MAX / _MARGIN:
                exact.add(node.output[0])
    outputs = {name: found[name] for name in graph.outputs}
    return ValueRanges(outputs, elements, frozenset(unfit), frozenset(exact))


@dataclass(frozen=True)
class _Facts:
    """What is needed of a graph after its weights are freed."""

    outputs: list[str]
    values: list[str]
    nodes: list[onnx.NodeProto]
    unfit_weights: set[str]
    weight_dims: dict[str, tuple[int, ...]]


def _graph(model: onnx.ModelProto) -> _Facts:
    import onnx
    from onnx import TensorProto, numpy_helper

    top = scopes(model, foreign=True)
    floats = {name for name, kind in top.types.items() if kind == TensorProto.FLOAT}
    nodes = []
    for node in top.graph.node:
        nodes.append(onnx.NodeProto())
        nodes[-1].CopyFrom(node)
    factors = {
        name
        for node in nodes
        for port, name in enumerate(node.input)
        if port not in _HARMLESS.get(node.op_type, ())
    }
    sizes = {
        tensor.name: _largest(numpy_helper.to_array(tensor))
        for tensor in top.graph.initializer
        if tensor.name in floats
    }
    unfit = {
        name
        for name, size in sizes.items()
        if _is_unfit(size, HALF_MAX) and (name in factors or size > 1)
    }
    outputs = [value.name for value in top.graph.output]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in top.graph.initializer}
    return _Facts(outputs, sorted(floats - sizes.keys()), nodes, unfit, shapes)


def _is_unfit(largest: float, limit: float) -> bool:
    return limit < largest < _INFINITE or 0 < largest < _SMALLEST


def _largest(weight: Array) -> float:
    return float(max(weight.max(initial=0.0), -weight.min(initial=0.0)))


def _probed(model: onnx.ModelProto, values: list[str]) -> onnx.ModelProto:
    """Let the graph compute extremes and size of values, so that one number of each is kept."""
    from onnx import helper

    for name in values:
        model.graph.node.extend(
            [
                helper.make_node("Abs", [name], [f"{name}{_PROBE}Abs"]),
                helper.make_node("Size", [name], [f"{name}{_PROBE}Size"]),
                *(
                    helper.make_node(
                        kind, [f"{name}{_PROBE}Abs"], [f"{name}{_PROBE}{kind}"], keepdims=0
                    )
                    for kind in ("ReduceMax", "ReduceMin")
                ),
            ]
        )
    return model
