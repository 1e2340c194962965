"""Everything in a graph, the graphs inside its nodes (If, Loop, Scan) included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_DRAWING = frozenset(
    [
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    ]
)


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Return the graphs in a node's attributes, as those of If, Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Return a graph and every graph inside its nodes, the outer ones first."""
    yield graph
    for node in graph.node:
        for inner in graphs_of(node):
            yield from subgraphs(inner)


def walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Return every node of a graph and of every graph inside it, in order within each graph."""
    for each in subgraphs(graph):
        yield from each.node


def initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Return the initialisers of a graph and of every graph inside it."""
    for each in subgraphs(graph):
        yield from each.initializer


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Return every tensor stored in a graph: initialisers and attributes, subgraphs included."""
    for each in subgraphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def names_read(node: onnx.NodeProto) -> set[str]:
    """Return the values around a node that it reads, also from within the graphs inside it."""
    names = {name for name in node.input if name}
    return names.union(*map(_names_from_outside, graphs_of(node)))


def _names_from_outside(graph: onnx.GraphProto) -> set[str]:
    read = {value.name for value in graph.output}.union(*map(names_read, graph.node))
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    return read - own.union(*(node.output for node in graph.node))


def varying(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Return the nodes of a graph that do not follow from constants alone, in its order."""
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        if constants.issuperset(names_read(node)) and not _draws(node):
            constants.update(node.output)
        else:
            yield node


def drawn(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the values that follow from random numbers which the graph, in normal form, draws."""
    from onnx import TensorProto, numpy_helper

    true = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.BOOL and numpy_helper.to_array(tensor).any()
    }
    found: set[str] = set()
    for node in graph.node:
        trains = node.op_type == "Dropout" and not true.isdisjoint(node.input[2:])
        if trains or _draws(node) or not found.isdisjoint(names_read(node)):
            found.update(node.output)
    return frozenset(found)


def _draws(node: onnx.NodeProto) -> bool:
    """Return whether a node, or one in the graphs inside it, draws random numbers."""
    inside = (each for graph in graphs_of(node) for each in graph.node)
    return node.op_type in _DRAWING or any(map(_draws, inside))
