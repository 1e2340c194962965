"""The int8_weights graph: matrices in int8 by output channel, and the arithmetic in fp32 as it was.

Where the time goes into reading weights, as in a decoder's step, a quarter of the bytes is what counts.
Only an engine that keeps the matrices in int8 and widens them as it multiplies has a use for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.conversion import EXTERNAL_ABOVE_BYTES, Conversion, save
from raybench.models.graph.operations import read_operations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

    from raybench.models.conversion import Fp32Graph

    Array = np.ndarray[Any, Any]

_LARGEST = 127
_RANK = 2


def to_int8_weights(source: Fp32Graph, target: Path) -> Conversion:
    """Write the graph with its matrices in int8 to `target`; matrices are read one at a time."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(source.path, load_external_data=False)
    weights = read_operations(source.path).weights
    axes = _channels(proto.graph, weights)
    kept, nodes, size = [], [], 0
    for tensor in proto.graph.initializer:
        array, axis = weights[tensor.name], axes.get(tensor.name)
        if axis is None:
            tensors = [numpy_helper.from_array(np.asarray(array), tensor.name)]
        else:
            tensors = _quantised(tensor.name, array, axis)
            names = [each.name for each in tensors]
            label = f"{tensor.name}.dequantised"
            nodes.append(
                onnx.helper.make_node(
                    "DequantizeLinear", names, [tensor.name], name=label, axis=axis
                )
            )
        kept += tensors
        size += sum(len(each.raw_data) for each in tensors)
    nodes += proto.graph.node
    for field, items in ((proto.graph.initializer, kept), (proto.graph.node, list(nodes))):
        del field[:]
        field.extend(items)
    save(proto, target, size > EXTERNAL_ABOVE_BYTES)
    return Conversion()


def _channels(graph: onnx.GraphProto, weights: Mapping[str, Array]) -> dict[str, int]:
    """Return the axis of the output channels of each matrix that only products and gathers read."""
    axes: dict[str, set[int | None]] = {}
    for node in graph.node:
        for port, name in enumerate(node.input):
            if name in weights:
                axes.setdefault(name, set()).add(_axis(node, port))
    return {
        name: axis
        for name, found in axes.items()
        if weights[name].dtype == np.float32
        and weights[name].ndim == _RANK
        and len(kinds := found - {_ANY}) == 1
        and (axis := kinds.pop()) is not None
    }


_ANY = -1
"""Axis of a table of which rows are gathered: any will do that a product needs."""


def _axis(node: onnx.NodeProto, port: int) -> int | None:
    """Return the axis of a weight's output channels where a node reads it; None if it has none."""
    if node.op_type == "MatMul" and port == 1:
        return 1
    if node.op_type == "Gemm" and port == 1:
        turned = any(each.name == "transB" and each.i for each in node.attribute)
        return 0 if turned else 1
    if node.op_type == "Gather" and port == 0:
        rows = not any(each.name == "axis" and each.i for each in node.attribute)
        return _ANY if rows else None
    return None


def _quantised(name: str, array: Array, axis: int) -> list[onnx.TensorProto]:
    """Return values, scales and zero points of a matrix: symmetric, with the largest value at 127."""
    from onnx import numpy_helper

    largest = np.abs(array).max(axis=1 - axis, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(_LARGEST), np.float32(1))
    values = np.rint(array / scale).astype(np.int8)
    scales = scale.reshape(-1).astype(np.float32)
    parts = {"int8": values, "scale": scales, "zero": np.zeros(len(scales), np.int8)}
    return [numpy_helper.from_array(part, f"{name}.{kind}") for kind, part in parts.items()]
