"""Element types of the values of a graph and of its subgraphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.models.shape_inference import skeleton, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx


@dataclass(frozen=True)
class Scope:
    """A graph, or a subgraph with the graph around it.

    Attributes:
        graph: the nodes and weights.
        types: element type by name of the values that this graph itself defines.
        parent: the graph around it, whose values its nodes may read, too.
        inner: by number of a node, the scopes of its subgraphs.
    """

    graph: onnx.GraphProto
    types: dict[str, int]
    parent: Scope | None
    inner: dict[int, tuple[Scope, ...]]

    def home(self, name: str) -> Scope | None:
        """Return the scope that defines a value, from here outwards; None if there is none."""
        if name in self.types:
            return self
        return self.parent.home(name) if self.parent else None

    def walk(self) -> Iterator[Scope]:
        """Return this scope and all within it."""
        yield self
        for scopes in self.inner.values():
            for scope in scopes:
                yield from scope.walk()


def scopes(model: onnx.ModelProto) -> Scope:
    """Return the scope of the model's graph; values whose type cannot be inferred are missing."""
    return _scope(model.graph, typed(skeleton(model)).graph, None)


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs in a node's attributes, as those of If, Loop and Scan."""
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return single + [graph for attribute in node.attribute for graph in attribute.graphs]


def _scope(graph: onnx.GraphProto, typed: onnx.GraphProto, parent: Scope | None) -> Scope:
    types = {tensor.name: tensor.data_type for tensor in typed.initializer}
    for value in (*typed.input, *typed.value_info, *typed.output):
        if kind := value.type.tensor_type.elem_type:
            types[value.name] = kind
    own = {output for node in graph.node for output in node.output}
    own |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    types = {name: kind for name, kind in types.items() if name in own}
    scope = Scope(graph, types, parent, {})
    for index, (node, twin) in enumerate(zip(graph.node, typed.node, strict=True)):
        pairs = zip(subgraphs(node), subgraphs(twin), strict=True)
        if inner := tuple(_scope(graph, typed, scope) for graph, typed in pairs):
            scope.inner[index] = inner
    return scope
