"""What a graph reads and hands on for an item beside its arithmetic: tables and activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.models.graph.graph_walk import initializers, names_read, varying, walk

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from raybench.models.graph.shape_inference import Shape

_VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"})
"""Ops whose output is their input with another shape, or next to nothing."""
_CONTROL = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class MemoryUse:
    """What an item needs of memory beside the weights that it multiplies with.

    Attributes:
        table_parameters: weights in tables of which an item only gathers rows.
        activations: numbers that operators hand on for one item, the outputs of the graph among them;
            None where a shape is unknown.
    """

    table_parameters: int
    activations: int | None


def memory_use(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> MemoryUse:
    """Return the tables of a graph and what its operators hand on.

    Args:
        model: with symbolic batch; weights need no values.
        shapes: of all values at a batch of 1, from `infer_sizes`.
    """
    return MemoryUse(table_parameters(model), _activations(model, shapes))


def table_parameters(model: onnx.ModelProto, among: Collection[str] | None = None) -> int:
    """Return the weights in tables of which an item only gathers rows.

    Args:
        model: a graph.
        among: names of the weights that count; None for all initializers.
    """
    from onnx import TensorProto

    gathered: set[str] = set()
    whole: set[str] = {value.name for value in model.graph.output}
    for node in walk(model.graph):
        table = {node.input[0]} if node.op_type == "Gather" else set()
        gathered |= table
        whole |= names_read(node) - table
    integers = {TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}
    return sum(
        math.prod(tensor.dims)
        for tensor in initializers(model.graph)
        if tensor.name in gathered - whole
        and tensor.data_type not in integers
        and (among is None or tensor.name in among)
    )


def _activations(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> int | None:
    total = 0
    for node in varying(model.graph):
        if node.op_type in _CONTROL:
            return None
        for name in node.output if node.op_type not in _VIEWS else ():
            shape = shapes.get(name) if name else ()
            if shape is None or not all(isinstance(size, int) for size in shape):
                return None
            total += math.prod(int(size or 0) for size in shape) if name else 0
    return total
