"""Shape inference without weights, on a skeleton of the graph: it takes milliseconds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from raybench.models.graph.constant_folding import fold_constants
from raybench.models.graph.graph_walk import subgraphs
from raybench.models.model import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

Shape = tuple["int | str | None", ...]

_ROUNDS = 64
"""Sizes that follow from other sizes are found in so many steps at most."""

KEEP_ELEMENTS = 4096
"""Constants up to this size stay: a Reshape, Slice or Resize may need their values."""


def skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the graph in which each weight is a typed input without a value.

    Noted shapes are left out: they may be those of another batch.
    """
    import onnx

    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    graph.input.extend(value for value in model.graph.input if value.name not in weights)
    for tensor in model.graph.initializer:
        if _small(tensor):
            graph.initializer.append(tensor)
        else:
            graph.input.append(_typed(tensor))
    for value in model.graph.output:
        graph.output.append(_without_shape(value))
    for inner in list(subgraphs(graph))[1:]:
        _strip(inner, graph)
    bare = onnx.ModelProto(ir_version=max(model.ir_version, 4), graph=graph)
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    return bare


def _strip(inner: onnx.GraphProto, outer: onnx.GraphProto) -> None:
    """Turn the weights of a graph inside another into inputs of the outer one, which it sees."""
    names = {value.name for value in outer.input}
    for tensor in list(inner.initializer):
        if not _small(tensor) and tensor.name not in names:  # two branches may share a name
            outer.input.append(_typed(tensor))
            inner.initializer.remove(tensor)
    del inner.value_info[:]
    for value in inner.output:
        value.CopyFrom(_without_shape(value))


def infer(bare: onnx.ModelProto, batch: int | None, strict: bool = False) -> dict[str, Shape]:
    """Return the shapes of all values of a skeleton by name; None stands for an unknown size.

    Args:
        bare: a skeleton; it is not changed.
        batch: replaces the batch symbol; None keeps the symbol.
        strict: raise onnx's InferenceError where the graph contradicts itself; else nothing is
            raised, and what cannot be inferred is left out.
    """
    import onnx

    copy = _at_batch(bare, batch)
    if strict:
        copy = onnx.shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True)
    return _shapes((copy if strict else typed(copy)).graph)


def infer_sizes(bare: onnx.ModelProto, batch: int) -> dict[str, Shape]:
    """Return the shapes of all values at one batch, with the sizes that the graph computes itself.

    Exporters write sizes as Shape, Slice, Concat and the like, through which onnx's inference often
    loses them. What is known is made a constant and folded, which lets more be inferred.

    Args:
        bare: a skeleton; it is not changed.
        batch: replaces the batch symbol.
    """
    copy = _at_batch(bare, batch)
    shapes = _shapes(typed(copy).graph)
    for _ in range(_ROUNDS):
        values = (name for node in copy.graph.node for name in node.output if name)
        if all(_known(shapes.get(name)) for name in values):
            break
        if not _settle_sizes(copy.graph, shapes):
            break
        fold_constants(copy)
        shapes |= _shapes(typed(copy).graph)
    return shapes


def _settle_sizes(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> bool:
    """Turn each Shape of known sizes into a constant; return whether there was any."""
    from onnx import numpy_helper

    found = False
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        shape = shapes.get(node.input[0]) if node.op_type == "Shape" and node.input else None
        if shape is None or not _known(shape):
            continue
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        sizes = np.array(shape[ends.get("start", 0) : ends.get("end")], np.int64)
        graph.initializer.append(numpy_helper.from_array(sizes, node.output[0]))
        del graph.node[index]
        found = True
    return found


def _known(shape: Shape | None) -> bool:
    return shape is not None and all(isinstance(size, int) for size in shape)


def _at_batch(bare: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(bare)
    for value in copy.graph.input if batch is not None else ():
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == BATCH:
                dim.dim_value = batch
    return copy


def typed(bare: onnx.ModelProto) -> onnx.ModelProto:
    """Return a skeleton with the types and shapes that can be inferred; none if that fails."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:  # noqa: BLE001 - whatever the library raises on what it cannot follow
        return bare


def _shapes(whole: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes noted in a graph and in every graph inside it."""
    shapes: dict[str, Shape] = {}
    for graph in subgraphs(whole):
        for tensor in graph.initializer:
            shapes[tensor.name] = tuple(tensor.dims)
        for value in (*graph.input, *graph.value_info, *graph.output):
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
    elements = math.prod(tensor.dims)
    if elements == 0 or elements > KEEP_ELEMENTS:
        return bool(elements == 0)  # such as the shape of a single number
    return bool(tensor.raw_data or tensor.float_data or tensor.int32_data or tensor.int64_data)


def _typed(tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)


def _without_shape(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    import onnx

    bare = onnx.ValueInfoProto(name=value.name)
    bare.type.CopyFrom(value.type)
    if bare.type.WhichOneof("value") == "tensor_type":  # a touch would make any other one
        bare.type.tensor_type.ClearField("shape")
    return bare
