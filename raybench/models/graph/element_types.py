"""Element types of the values of a graph and of its subgraphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.models.graph.cpu_run import open_session
from raybench.models.graph.graph_walk import graphs_of
from raybench.models.graph.shape_inference import skeleton, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx


_ORT_TYPES = {"float": 1, "float16": 10, "double": 11, "int32": 6, "int64": 7, "bool": 9}
"""Numbers of the element types that ONNX Runtime names so."""


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

    def kind(self, name: str) -> int:
        """Return the element type of a value, from here outwards; 0 if it is unknown."""
        home = self.home(name)
        return home.types[name] if home else 0

    def walk(self) -> Iterator[Scope]:
        """Return this scope and all within it."""
        yield self
        for scopes in self.inner.values():
            for scope in scopes:
                yield from scope.walk()


def scopes(model: onnx.ModelProto, foreign: bool = False) -> Scope:
    """Return the scope of the model's graph; values whose type cannot be inferred are missing.

    Args:
        model: the graph; weights are not needed.
        foreign: ask ONNX Runtime for what its own operators write, which onnx does not know.
    """
    bare = skeleton(model)
    known = typed(bare)
    if foreign and (missing := _untyped(known)):
        bare.graph.value_info.extend(_written(bare, missing))
        known = typed(bare)
    return _scope(model.graph, known.graph, None)


def _untyped(known: onnx.ModelProto) -> list[str]:
    """Return the outputs of operators of other domains that have no type."""
    typed_names = {value.name for value in (*known.graph.value_info, *known.graph.output)}
    return [
        name
        for node in known.graph.node
        if node.domain not in ("", "ai.onnx")
        for name in node.output
        if name and name not in typed_names
    ]


def _written(bare: onnx.ModelProto, names: list[str]) -> list[onnx.ValueInfoProto]:
    """Return the tensor types of values, as ONNX Runtime loads the graph; none if it does not."""
    import onnx
    from onnx import helper

    copy = onnx.ModelProto()
    copy.CopyFrom(bare)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = open_session(copy.SerializeToString())
    except Exception:  # noqa: BLE001 - whatever ONNX Runtime raises: the types stay unknown
        return []
    kinds = {f"tensor({name})": kind for name, kind in _ORT_TYPES.items()}
    return [
        helper.make_tensor_value_info(value.name, kinds[value.type], None)
        for value in session.get_outputs()
        if value.name in names and value.type in kinds
    ]


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
        pairs = zip(graphs_of(node), graphs_of(twin), strict=True)
        if inner := tuple(_scope(graph, typed, scope) for graph, typed in pairs):
            scope.inner[index] = inner
    return scope
