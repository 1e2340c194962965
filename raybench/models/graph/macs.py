"""Parameters and multiply-accumulates of one item, counted on the fp32 graph.

FLOPs are twice the MACs. Convolutions, matrix products and recurrent layers count; element-wise
work does not, nor what follows from constants alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.models.graph.graph_walk import graphs_of, initializers, varying
from raybench.models.graph.memory_use import memory_use
from raybench.models.graph.shape_inference import infer_sizes, skeleton

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from raybench.models.graph.memory_use import MemoryUse
    from raybench.models.graph.shape_inference import Shape

_OPERANDS = {
    "Conv": (0, 1),
    "ConvTranspose": (0, 1),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
}
"""Positions of the two factors among the inputs of an op."""

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_CONTROL = frozenset({"If", "Loop", "Scan"})
_UNCOUNTED = frozenset({"Einsum", "Attention", "DeformConv", "LinearAttention", "SequenceMap"})
"""Ops that multiply, but are not counted here."""


@dataclass(frozen=True)
class Counts:
    """Size and cost of a graph.

    Attributes:
        parameters: number of elements of all weights that are not integers.
        macs_per_item: multiply-accumulates; None if a node's share is unknown.
        unknown: names of the nodes whose share is unknown, or grows faster than the batch, as that of
            a product of all items with all; they are never counted as 0.
        memory: tables and what operators hand on.
    """

    parameters: int
    macs_per_item: int | None
    unknown: tuple[str, ...]
    memory: MemoryUse


def count(model: onnx.ModelProto) -> Counts:
    """Count parameters and MACs of a graph with symbolic batch; weights need no values."""
    shapes, double = (infer_sizes(skeleton(model), batch=batch) for batch in (1, 2))
    total, unknown = 0, []
    for node in varying(model.graph):
        macs, of_two = macs_of(node, shapes), macs_of(node, double)
        if macs is None or (of_two or 0) > 2 * macs:
            unknown.append(node.name or node.output[0])
        else:
            total += macs
    macs = None if unknown else total
    return Counts(_parameters(model), macs, tuple(unknown), memory_use(model, shapes))


def macs_of(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the MACs of a node; 0 for an op without any, None if they cannot be determined.

    Args:
        node: of the graph or of a graph inside it.
        shapes: from `infer_sizes`, at the batch to count for.
    """
    kind = node.op_type
    if node.domain not in ("", "ai.onnx") or kind in _UNCOUNTED:
        return None
    if kind in _CONTROL:
        return _of_subgraphs(node, shapes)
    if kind in _RECURRENT:
        return _of_recurrent(node, shapes)
    if kind not in _OPERANDS:
        return 0
    x, w = (_static_shape(node, position, shapes) for position in _OPERANDS[kind])
    out = _static(shapes.get(node.output[0]))
    if x is None or w is None or out is None:
        return None
    if kind == "ConvTranspose":
        return math.prod(x) * math.prod(w[1:])
    if "Conv" in kind:
        return math.prod(out) * math.prod(w[1:])
    inner = x[0 if _flag(node, "transA") else 1] if kind == "Gemm" else x[-1]
    return math.prod(out) * inner


def _parameters(model: onnx.ModelProto) -> int:
    from onnx import TensorProto

    whole = {TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}
    return sum(
        math.prod(tensor.dims)
        for tensor in initializers(model.graph)
        if tensor.data_type not in whole
    )


def _of_subgraphs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the MACs of an If with equally large branches, or of a loop that multiplies nothing."""
    totals: set[int | None] = set()
    for graph in graphs_of(node):
        shares = [macs_of(inner, shapes) for inner in graph.node]
        known = [share for share in shares if share is not None]
        totals.add(sum(known) if len(known) == len(shares) else None)
    total = totals.pop() if len(totals) == 1 else None
    return total if node.op_type == "If" or total == 0 else None


def _of_recurrent(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the MACs of both products of every step: of the input and of the hidden state."""
    x, w, r = (_static_shape(node, position, shapes) for position in range(3))
    if x is None or w is None or r is None:
        return None
    return math.prod(x[:2]) * (math.prod(w) + math.prod(r))


def _static_shape(
    node: onnx.NodeProto, position: int, shapes: Mapping[str, Shape]
) -> tuple[int, ...] | None:
    """Return the shape of an input, in numbers; None if it is missing or not known."""
    return _static(shapes.get(node.input[position])) if position < len(node.input) else None


def _static(shape: Shape | None) -> tuple[int, ...] | None:
    sizes = tuple(size for size in shape or () if isinstance(size, int))
    return None if shape is None or len(sizes) < len(shape) else sizes


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
