"""Shape inference without weights, on a skeleton of the graph: it takes milliseconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.models.model import BATCH

if TYPE_CHECKING:
    import onnx

Shape = tuple["int | str | None", ...]

KEEP_ELEMENTS = 4096
"""Constants up to this size stay: a Reshape, Slice or Resize may need their values."""


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the graph in which each weight is a typed input without a value.

    Noted shapes are left out: they may be those of another batch.
    """
    import onnx
    from onnx import helper

    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in weights)
    for tensor in model.graph.initializer:
        if _small(tensor):
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    for value in model.graph.output:
        graph.output.append(_without_shape(value))
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4), graph=graph)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    return bare


def infer(bare: onnx.ModelProto, batch: int | None, strict: bool = False) -> dict[str, Shape]:
    """Return the shapes of all values of a skeleton by name; None stands for an unknown size.

    Args:
        bare: a skeleton; it is not changed.
        batch: replaces the batch symbol; None keeps the symbol.
        strict: raise onnx's InferenceError where the graph contradicts itself.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(bare)
    if batch is not None:
        for value in copy.graph.input:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == BATCH:
                    dim.dim_value = batch
    inferred = onnx.shape_inference.infer_shapes(copy, strict_mode=strict, data_prop=True)
    shapes: dict[str, Shape] = {
        tensor.name: tuple(tensor.dims) for tensor in inferred.graph.initializer
    }
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        shape = dims(value)
        if shape is not None:
            shapes[value.name] = shape
    return shapes


def dims(value: onnx.ValueInfoProto) -> Shape | None:
    """Return the declared dimensions of a value; None if it declares no rank."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.dim_value > 0 else (dim.dim_param or None) for dim in tensor.shape.dim
    )


def _small(tensor: onnx.TensorProto) -> bool:
    if math.prod(tensor.dims) > KEEP_ELEMENTS:
        return False
    return bool(tensor.raw_data or tensor.float_data or tensor.int32_data or tensor.int64_data)


def _without_shape(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    import onnx

    bare = onnx.ValueInfoProto(name=value.name)
    bare.type.CopyFrom(value.type)
    if (
        bare.type.WhichOneof("value") == "tensor_type"
    ):  # a touch would declare any other as a tensor
        bare.type.tensor_type.ClearField("shape")
    return bare
