"""Folding: what a graph computes from constants alone becomes a constant.

Nodes are evaluated one at a time by onnx's reference evaluator, and only those of ops whose result
has the same bits on every machine and in every engine: moves of data, integer and logical ops, and
the float ops that IEEE 754 rounds exactly. Sums of products, powers and trigonometry stay, as does
whatever draws at random, reduces precision (Q/DQ) or would grow the graph.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from raybench.models.graph.graph_walk import graphs_of, initializers, subgraphs, walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

_MOVES = frozenset(
    {
        "Cast", "CastLike", "Concat", "ConstantOfShape", "Expand", "Flatten", "Gather",
        "GatherElements", "GatherND", "Identity", "Pad", "Reshape", "ScatterElements", "ScatterND",
        "Shape", "Size", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze",
        "Where",
    }
)  # fmt: skip
_LOGIC = frozenset(
    {
        "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Xor",
    }
)  # fmt: skip
_EXACT = frozenset(
    {
        "Abs", "Add", "Ceil", "Clip", "Div", "Floor", "Max", "Min", "Mul", "Neg", "Reciprocal",
        "Round", "Sign", "Sqrt", "Sub",
    }
)  # fmt: skip
_OF_INTEGERS = frozenset({"Mod", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"})
"""Ops that are exact on integers only."""

_FREE_ELEMENTS = 1 << 16
"""A folded constant may have this many elements, or as many as the constants it is made from."""

_SMALL_ELEMENTS = 1 << 12
"""Constants up to this size may decide the shape of a result."""

_FILE_BYTES = 1_900_000_000
"""Folding stops before the graph comes near protobuf's limit of 2 GiB."""


def fold_constants(model: onnx.ModelProto) -> None:
    """Fold the constants of a graph and of every graph inside it, and drop unread weights.

    A node that makes an output of its graph stays, and so does any that cannot be evaluated.
    """
    room = _FILE_BYTES - sum(map(_nbytes, initializers(model.graph)))
    _fold(model.graph, model, {}, room)
    _drop_unread(model.graph)


def _fold(
    graph: onnx.GraphProto,
    model: onnx.ModelProto,
    outer: Mapping[str, onnx.TensorProto],
    room: int,
) -> int:
    """Fold one graph and those inside it; return the bytes that may still be added."""
    constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    outputs = {value.name for value in graph.output}
    folded = []
    for index, node in enumerate(graph.node):
        for inner in graphs_of(node):
            room = _fold(inner, model, constants, room)
        if outputs.isdisjoint(node.output):
            results = _results(node, model, constants, room)
            if results is not None:
                constants.update(results)
                folded.append((index, results))
                room -= sum(map(_nbytes, results.values()))
    for index, results in reversed(folded):
        graph.initializer.extend(results.values())
        del graph.node[index]
    return room


def _results(
    node: onnx.NodeProto,
    model: onnx.ModelProto,
    constants: Mapping[str, onnx.TensorProto],
    room: int,
) -> dict[str, onnx.TensorProto] | None:
    """Return the outputs of a node by name; None if it is not to be folded."""
    inputs = {name: constants[name] for name in node.input if name in constants}
    if not inputs or len(inputs) < len({name for name in node.input if name}):
        return None
    if not _exact(node, inputs):
        return None
    try:
        alone = _alone(node, model, inputs)
        if not _fits(alone, inputs, room):
            return None
        return _evaluate(alone, inputs)
    except Exception:  # noqa: BLE001 - of onnx or numpy; an engine may still run the node
        return None


def _exact(node: onnx.NodeProto, inputs: Mapping[str, onnx.TensorProto]) -> bool:
    """Return whether a node's result is the same everywhere, judged by op and types."""
    from onnx import TensorProto

    whole = {TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32}
    whole |= {TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32}
    whole |= {TensorProto.UINT64}
    types = {tensor.data_type for tensor in inputs.values()}
    types |= {attribute.i for attribute in node.attribute if attribute.name == "to"}
    external = any(tensor.data_location == TensorProto.EXTERNAL for tensor in inputs.values())
    if node.domain not in ("", "ai.onnx") or external:
        return False
    if node.op_type in _OF_INTEGERS:
        return types <= whole
    floats = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
    return types <= whole | floats and node.op_type in _MOVES | _LOGIC | _EXACT


def _alone(
    node: onnx.NodeProto, model: onnx.ModelProto, inputs: Mapping[str, onnx.TensorProto]
) -> onnx.ModelProto:
    """Return a model of one node; small constants are its weights, large ones its inputs."""
    import onnx
    from onnx import helper

    graph = onnx.GraphProto(name="one node")
    graph.node.append(node)
    for tensor in inputs.values():
        if _elements(tensor) <= _SMALL_ELEMENTS:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    alone = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
    alone.opset_import.extend(
        entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")
    )
    return alone


def _fits(alone: onnx.ModelProto, inputs: Mapping[str, onnx.TensorProto], room: int) -> bool:
    """Return whether a node's outputs have known sizes that may be stored; nothing is computed."""
    import onnx
    from onnx import helper

    inferred = onnx.shape_inference.infer_shapes(alone, strict_mode=True)
    given = sum(_elements(tensor) for tensor in inputs.values())
    nbytes = 0
    for value in inferred.graph.output:
        tensor = value.type.tensor_type
        if not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            return False
        elements = math.prod(dim.dim_value for dim in tensor.shape.dim)
        if not tensor.HasField("shape") or elements > max(given, _FREE_ELEMENTS):
            return False
        nbytes += elements * helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return nbytes <= room


def _evaluate(
    alone: onnx.ModelProto, inputs: Mapping[str, onnx.TensorProto]
) -> dict[str, onnx.TensorProto]:
    """Return the outputs of a model of one node; raises what onnx or numpy raise.

    Overflow, division by zero and values that a type cannot hold are errors: engines differ there.
    """
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    fed = {value.name: numpy_helper.to_array(inputs[value.name]) for value in alone.graph.input}
    with np.errstate(all="raise"):
        values = ReferenceEvaluator(alone).run(None, fed)
    named = zip((value.name for value in alone.graph.output), values, strict=True)
    return {name: numpy_helper.from_array(np.asarray(value), name) for name, value in named}


def _nbytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor in its graph file, without copying them to count them."""
    from onnx import TensorProto, helper

    if tensor.data_location == TensorProto.EXTERNAL:
        return 0
    try:
        itemsize = int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:  # a type that onnx does not know
        itemsize = 8
    return _elements(tensor) * itemsize


def _elements(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def _drop_unread(whole: onnx.GraphProto) -> None:
    """Remove the initialisers that no node reads and no graph returns."""
    read = {name for node in walk(whole) for name in node.input}
    read |= {value.name for graph in subgraphs(whole) for value in graph.output}
    for graph in subgraphs(whole):
        unread = [i for i, tensor in enumerate(graph.initializer) if tensor.name not in read]
        for index in reversed(unread):
            del graph.initializer[index]
