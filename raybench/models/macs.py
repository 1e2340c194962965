"""Parameters and multiply-accumulates of one item, counted on the fp32 graph.

FLOPs are twice the MACs. Conv, ConvTranspose, Gemm and MatMul count, element-wise work does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.models.shape_inference import infer, skeleton

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from raybench.models.shape_inference import Shape

_UNCOUNTED = frozenset(
    {"Einsum", "LSTM", "GRU", "RNN", "Attention", "Loop", "If", "Scan", "DeformConv"}
)
"""Ops that multiply, but are not counted here."""


@dataclass(frozen=True)
class Counts:
    """Size and cost of a graph.

    Attributes:
        parameters: number of elements of all weights that are not integers.
        macs_per_item: multiply-accumulates; None if a node's share is unknown.
        unknown: names of the nodes whose share is unknown; they are never counted as 0.
    """

    parameters: int
    macs_per_item: int | None
    unknown: tuple[str, ...]


def count(model: onnx.ModelProto) -> Counts:
    """Count parameters and MACs of a graph with symbolic batch; weights need no values."""
    shapes = infer(skeleton(model), batch=1)
    total, unknown = 0, []
    for node in model.graph.node:
        macs = _macs(node, shapes)
        if macs is None:
            unknown.append(node.name or node.output[0])
        else:
            total += macs
    return Counts(_parameters(model), None if unknown else total, tuple(unknown))


def _parameters(model: onnx.ModelProto) -> int:
    from onnx import TensorProto

    whole = {TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}
    return sum(
        math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type not in whole
    )


def _macs(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the MACs of a node; 0 for an op without any, None if they cannot be determined."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _UNCOUNTED:
        return None
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    x, w, out = (
        _static_shape(shapes.get(name)) for name in (node.input[0], node.input[1], node.output[0])
    )
    if x is None or w is None or out is None:
        return None
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(w[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(x) * math.prod(w[1:])
    if node.op_type == "Gemm":
        return math.prod(out) * x[0 if _flag(node, "transA") else 1]
    return math.prod(out) * x[-1]


def _static_shape(shape: Shape | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    sizes = tuple(size for size in shape if isinstance(size, int))
    return sizes if len(sizes) == len(shape) else None


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
