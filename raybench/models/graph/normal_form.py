"""The form in which every graph is read: what exporters write in many ways is written in one.

Constants and what is computed from constants alone are initialisers, nodes are in the order of the
data and have names of their own, local functions are inlined, and attributes that follow from the
weights are filled in, in subgraphs (If, Loop, Scan) as well. Nothing is fused: what computes on
inputs is as it was. The result depends on the graph alone.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

import numpy as np

from raybench.models.graph.constant_folding import fold_constants
from raybench.models.graph.graph_walk import initializers, names_read, subgraphs, walk

if TYPE_CHECKING:
    import onnx

VERSION = 13
"""Incremented when the same file gets another normal form or other facts."""

_SCALARS = {"value_float": "FLOAT", "value_int": "INT64", "value_string": "STRING"}
_LISTS = {"value_floats": "FLOAT", "value_ints": "INT64", "value_strings": "STRING"}
_DENSE_ELEMENTS = 1 << 24
"""A sparse constant of more elements stays as it is."""

_INPUTS_WITHOUT_WEIGHTS = 4
"""First IR version in which an initialiser need not be listed among the inputs."""


def normalise(model: onnx.ModelProto, fold: bool = True) -> onnx.ModelProto:
    """Return a model in normal form; the given one may be changed.

    Args:
        model: a model whose large weights may be in external files, not loaded.
        fold: whether to fold constants; not in a graph that runs as it is.

    Raises:
        ValueError: nodes read each other's results.
    """
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _drop_weights_from_inputs(model)
    values = {name for node in walk(model.graph) for name in node.output}
    values |= {tensor.name for tensor in initializers(model.graph)}
    for graph in subgraphs(model.graph):
        _constants_to_initializers(graph, values)
        _sort(graph)
    _compute_outputs(model.graph, values)
    _name_nodes(model.graph)
    if fold:
        fold_constants(model)
    _fill_kernel_shapes(model.graph)
    return model


def _drop_weights_from_inputs(model: onnx.ModelProto) -> None:
    """Keep as inputs only what must be fed; old files list every weight as an input, too."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    fed = [value for value in graph.input if value.name not in weights]
    if len(fed) == len(graph.input):
        return
    del graph.input[:]
    graph.input.extend(fed)
    model.ir_version = max(model.ir_version, _INPUTS_WITHOUT_WEIGHTS)


def _constants_to_initializers(graph: onnx.GraphProto, taken: set[str]) -> None:
    """Turn each Constant node and each sparse initialiser of one graph into an initialiser.

    A constant that is an output keeps its name through an Identity: engines compute outputs.
    """
    from onnx import helper

    outputs = {value.name for value in graph.output}
    nodes = []
    for node in graph.node:
        tensor = _value_of(node)
        if tensor is None:
            nodes.append(node)
            continue
        tensor.name = name = node.output[0]
        if name in outputs:
            tensor.name = _free_name(f"{name}.value", taken)
            nodes.append(helper.make_node("Identity", [tensor.name], [name], name=node.name))
        graph.initializer.append(tensor)
    if any(node.op_type == "Constant" for node in graph.node):
        _replace_nodes(graph, nodes)
    sparse = [(each, _dense(each)) for each in graph.sparse_initializer]
    for each, tensor in sparse:
        if tensor is not None:
            tensor.name = each.values.name
            graph.initializer.append(tensor)
            graph.sparse_initializer.remove(each)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a graph other nodes, which may be some of its own."""
    import onnx

    kept = onnx.GraphProto(node=nodes)
    del graph.node[:]
    graph.node.extend(kept.node)


def _sort(graph: onnx.GraphProto) -> None:
    """Put each node behind those that it reads, as ONNX asks and engines do not.

    Raises:
        ValueError: nodes read each other's results.
    """
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{makers[name] for name in names_read(node) if name in makers} for node in graph.node]
    if all(max(each, default=-1) < i for i, each in enumerate(needs)):
        return
    readers: dict[int, list[int]] = {}
    for i, each in enumerate(needs):
        for maker in each:
            readers.setdefault(maker, []).append(i)
    ready = [i for i, each in enumerate(needs) if not each]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for reader in readers.get(order[-1], ()):
            needs[reader].discard(order[-1])
            if not needs[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(graph.node):
        stuck = next(node for i, node in enumerate(graph.node) if needs[i])
        raise ValueError(f"node {stuck.name or stuck.output[0]!r} needs its own result")
    _replace_nodes(graph, [graph.node[i] for i in order])


def _value_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return the value of a Constant node as a tensor; None if it has none that can be one."""
    import onnx
    from onnx import TensorProto, helper

    standard = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
    if not standard or len(node.output) != 1 or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.HasField("t"):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(attribute.t)
        return tensor
    if attribute.name == "sparse_value":
        return _dense(attribute.sparse_tensor)
    kind = _SCALARS.get(attribute.name) or _LISTS.get(attribute.name)
    if kind is None:
        return None
    value = helper.get_attribute_value(attribute)
    values = [value] if attribute.name in _SCALARS else list(value)
    shape = [] if attribute.name in _SCALARS else [len(values)]
    return helper.make_tensor("", getattr(TensorProto, kind), shape, values)


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto | None:
    """Return a sparse tensor with its zeros; None if it is too large or its parts do not fit."""
    from onnx import numpy_helper

    if math.prod(sparse.dims) > _DENSE_ELEMENTS:
        return None
    try:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        flat = (
            indices
            if indices.ndim == 1
            else np.ravel_multi_index(tuple(indices.T), tuple(sparse.dims))
        )
        dense.reshape(-1)[flat] = values
    except (ValueError, IndexError, TypeError):
        return None
    return numpy_helper.from_array(dense)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own: its first output's where it has none or shares one."""
    taken = {node.name for node in walk(graph)}
    used: set[str] = set()
    for node in walk(graph):
        if not node.name or node.name in used:
            output = next((name for name in node.output if name), node.op_type)
            node.name = _free_name(output, taken)
        used.add(node.name)


def _compute_outputs(graph: onnx.GraphProto, taken: set[str]) -> None:
    """Give an output that is an input a name of its own: passes take no graph that has both in one."""
    from onnx import helper

    inputs = {value.name for value in graph.input}
    taken |= inputs
    for value in graph.output:
        if value.name in inputs:
            name, value.name = value.name, _free_name(f"{value.name}.output", taken)
            graph.node.append(helper.make_node("Identity", [name], [value.name]))


def _free_name(wanted: str, taken: set[str]) -> str:
    """Return the wanted name, numbered if it is taken, and take it."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}.{number}"
    taken.add(name)
    return name


def _fill_kernel_shapes(graph: onnx.GraphProto) -> None:
    """Write the kernel_shape of convolutions, which is optional and follows from the weights."""
    from onnx import helper

    shapes = {tensor.name: tensor.dims for tensor in initializers(graph)}
    for node in walk(graph):
        if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in ("", "ai.onnx"):
            continue
        kernel = shapes.get(node.input[1] if len(node.input) > 1 else "", ())[2:]
        if kernel and not any(attribute.name == "kernel_shape" for attribute in node.attribute):
            node.attribute.append(helper.make_attribute("kernel_shape", kernel))
