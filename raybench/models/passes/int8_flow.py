"""Which nodes of a graph int8 is for, by where their inputs come from and not by their names.

Int8 starts at a convolution or a product of matrices. Of the ops around it only those are quantised
that pass on what a convolution wrote: the sum of two branches, a pool, a concatenation. What
exporters write of single ops (normalisations, GELU, the scale and the mask of attention) and the
residual stream of a transformer have another origin and stay in float, as do biases that are added
by a node of their own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from raybench.models.graph.graph_walk import names_read

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

WEIGHTED = ("Conv", "Gemm", "MatMul")

_PASS_ON = frozenset(
    {"Relu", "Add", "Concat", "MaxPool", "GlobalAveragePool", "Flatten", "LRN", "Dropout"}
)

_SIZES = ("Shape", "Size")

_MOVE = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"})


def nodes_for_int8(graph: onnx.GraphProto, kinds: Collection[str]) -> list[str]:
    """Return the names of the nodes whose inputs are to be int8.

    Args:
        graph: in normal form, so that every node has a name.
        kinds: ops that the dialect quantises at all.
    """
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    constants, flow, found = set(weights), set[str](), []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        sizes = node.op_type in _SIZES  # known before any item is: weights cut by them are constant
        if sizes or (inputs and constants.issuperset(inputs)):
            constants.update(node.output)
            continue
        if node.op_type in WEIGHTED:
            chosen = _is_weighted(node, weights, constants)
            if chosen and node.op_type == "Conv":
                flow.update(node.output)
        else:
            chosen = node.op_type in _PASS_ON and flow.issuperset(inputs)
            if chosen:
                flow.update(node.output)
        if chosen and node.op_type in kinds:
            found.append(node.name)
    return found


def _is_weighted(node: onnx.NodeProto, ranks: dict[str, int], constants: Collection[str]) -> bool:
    """Return whether a weighted op has the form that int8 kernels have.

    Its first input is computed. The second is a stored weight, of a MatMul a matrix so that it has
    one scale a column, or, of a MatMul alone, computed as well (attention).
    """
    if node.input[0] in constants:
        return False
    if node.op_type == "MatMul":
        return node.input[1] not in constants or ranks.get(node.input[1]) == 2
    return node.input[1] in ranks


def patch_convolutions(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the convolutions that make the tokens of a vision transformer.

    What they write is only moved before it joins the stream, which is float.
    """
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return {
        node.name
        for node in graph.node
        if node.op_type == "Conv" and _is_moved_to_a_stream(node, readers)
    }


def _is_moved_to_a_stream(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]
) -> bool:
    moved, ends, distance = [node.output[0]], set[str](), 0
    while moved:
        for reader in readers[moved.pop()]:
            if reader.op_type in _MOVE:
                moved.append(reader.output[0])
                distance += 1
            else:
                ends.add(reader.op_type)
    return distance > 0 and bool(ends) and ends <= {"Concat", "Add"}


def last_products(graph: onnx.GraphProto, nodes: Collection[str]) -> set[str]:
    """Return those of some nodes, weighted ones, that no other of them comes after."""
    leading, last = set[str](), set[str]()
    for node in reversed(graph.node):
        weighted = node.name in nodes and node.op_type in WEIGHTED
        leads = any(name in leading for name in node.output)
        if weighted and not leads:
            last.add(node.name)
        if weighted or leads:
            leading.update(node.input)
    return last


def own_weights(graph: onnx.GraphProto, nodes: Collection[str]) -> bool:
    """Give nodes weights of their own where others read the same; return whether there were any.

    The quantiser rounds a weight for all of its readers: also for a float product, for a table of
    words that the last product shares, and for what follows from constants alone.
    """
    chosen = [node for node in graph.node if node.name in nodes]
    read = {name for node in chosen for name in node.input}
    elsewhere = {value.name for value in graph.output}
    elsewhere.update(*(names_read(node) for node in graph.node if node.name not in nodes))
    own: dict[str, str] = {}
    for tensor in list(graph.initializer):
        if tensor.name in read & elsewhere:
            own[tensor.name] = _copy(graph, tensor, "int8")
    for node in chosen:
        for port, name in enumerate(node.input):
            node.input[port] = own.get(name, name)
    return _own_by_axis(graph, chosen) or bool(own)


def _own_by_axis(graph: onnx.GraphProto, chosen: Collection[onnx.NodeProto]) -> bool:
    """Give products weights of their own where others have the columns on another axis.

    A weight has one scale a column: of two Gemms that share one, one transposed, the second would
    have a scale a row, which both engines take for one a column (15 dB in place of 29).
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    first: dict[str, int] = {}
    own: dict[tuple[str, int], str] = {}
    for node in chosen:
        name = node.input[1] if node.op_type in WEIGHTED else ""
        if name not in weights:
            continue
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else 1
        if first.setdefault(name, axis) != axis:
            if (name, axis) not in own:
                own[name, axis] = _copy(graph, weights[name], f"axis{axis}")
            node.input[1] = own[name, axis]
    return bool(own)


def _copy(graph: onnx.GraphProto, tensor: onnx.TensorProto, suffix: str) -> str:
    """Add a copy of an initialiser to a graph and return its name."""
    import onnx

    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    name = f"{tensor.name}.{suffix}"
    copy.name = name
    graph.initializer.append(copy)
    return name


def weights_of(graph: onnx.GraphProto, nodes: Collection[str]) -> int:
    """Return the number of weights that nodes read."""
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    read = {name for node in graph.node if node.name in nodes for name in node.input}
    return sum(size for name, size in sizes.items() if name in read)
