"""The fp16 graph of an fp32 graph: a type for each node, and casts where the types meet.

The fp32 form of a value keeps its name, so inputs and outputs stay fp32; the half form has a name
of its own. A value is cast once, beside the node that writes it, and two nodes of one type exchange
it as it is. The schema of its operator says which inputs and outputs of a node may be half at all.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.graph.element_types import Scope, scopes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import onnx

    Ports = Collection[int]

HALF_MAX = 65504.0
HALF_LEAST = 2.0**-24
"""The largest number of half precision, and the smallest above 0."""

_NEVER_HALF = frozenset(
    {"Constant", "CumSum", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
    | {"Bernoulli", "Multinomial"}
)
"""Ops that stay: sums of growing length, and random values, which would be others in half."""

_SIZES = ("Shape", "Size")
_CONTENT = {
    "ConstantOfShape": 0,
    **dict.fromkeys(("Expand", "Gather", "Pad", "Reshape", "Resize", "Slice", "Tile"), 1),
}
"""How many of the inputs make the values of an output, where the others say its shape."""


@dataclass(frozen=True)
class HalfGraph:
    """An fp16 graph.

    Attributes:
        model: the graph with its weights.
        kept: kinds of the ops that compute in fp32 by order, each once.
        nodes: names of those nodes.
        suffix: ends the name of a value's half form; the fp32 form has the name alone.
    """

    model: onnx.ModelProto
    kept: tuple[str, ...]
    nodes: tuple[str, ...]
    suffix: str


def half_graph(
    model: onnx.ModelProto, values: Collection[str], nodes: Collection[str] = ()
) -> HalfGraph:
    """Convert a graph to half precision, except where asked.

    Args:
        model: the fp32 graph with its weights; it is spoiled.
        values: names of values that stay fp32: a node that reads or writes one computes in fp32.
        nodes: first outputs of further nodes that compute in fp32.
    """
    made = _Pass(model, frozenset(values), frozenset(nodes))
    made.assign(made.top)
    for scope in reversed(list(made.top.walk())):  # inner ones first: placing copies nodes
        made.place(scope)
    kept = tuple(dict.fromkeys(node.op_type for node in made.kept))
    return HalfGraph(_compact(model), kept, tuple(node.name for node in made.kept), made.suffix)


def _compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy: a message holds the memory of what was removed from it until it is freed."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def to_half(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Round to half; finite values stay finite, and values other than 0 stay other than 0."""
    size = np.abs(values)
    size = np.where(np.isfinite(size), np.minimum(size, HALF_MAX), size)
    size = np.where(size > 0, np.maximum(size, HALF_LEAST), size)
    half: np.ndarray[Any, np.dtype[np.float16]] = np.copysign(size, values).astype(np.float16)
    return half


class _Pass:
    """One conversion, in place.

    Attributes:
        top: the scope of the model's graph.
        kept: the nodes that compute in fp32 by order.
        suffix: ends the name of a value's half form.
    """

    def __init__(
        self, model: onnx.ModelProto, values: frozenset[str], nodes: frozenset[str]
    ) -> None:
        self.top = scopes(model, foreign=True)
        self.kept: list[onnx.NodeProto] = []
        self._values = values
        self._nodes = nodes
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.suffix = "_half"
        self._weights = {
            id(scope): {tensor.name for tensor in scope.graph.initializer}
            for scope in self.top.walk()
        }
        names = {name for scope in self.top.walk() for name in scope.types}
        while any(name.endswith(self.suffix) for name in names):
            self.suffix += "_"
        self._halves: set[tuple[int, str]] = set()  # values that their node writes in half
        self._of_shapes: set[tuple[int, str]] = set()  # values that follow from shapes alone
        self._reads: defaultdict[tuple[int, str], set[bool]] = defaultdict(set)  # in half or not

    def assign(self, scope: Scope) -> None:
        """Choose the type of each node; rename what it reads or writes in half."""
        for index, node in enumerate(scope.graph.node):
            for inner in scope.inner.get(index, ()):
                self.assign(inner)
            reads, writes = ((), ()) if index in scope.inner else self._ports(scope, node)
            for port, name in enumerate(node.input):
                node.input[port] = self._read(scope, name, port in reads)
            for port, name in enumerate(node.output):
                if port in writes and self._is_float(scope, name):
                    self._halves.add((id(scope), name))
                    node.output[port] = name + self.suffix
                    _convert_attributes(node)
        for value in scope.graph.output:
            self._read(scope, value.name, half=False)

    def place(self, scope: Scope) -> None:
        """Add the casts of a graph's values, and its weights in half."""
        from onnx import TensorProto

        graph, unread = scope.graph, set()
        for tensor in list(graph.initializer):
            wanted = self._reads[id(scope), tensor.name]
            if tensor.data_type == TensorProto.FLOAT and True in wanted:
                graph.initializer.append(_half_weight(tensor, tensor.name + self.suffix))
                unread |= set() if False in wanted else {tensor.name}
        weights = {tensor.name for tensor in graph.initializer}
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name in unread:
                del graph.initializer[index]
        _keep(graph.input, [value for value in graph.input if value.name not in weights])
        nodes: list[onnx.NodeProto] = []
        for value in graph.input:
            nodes += self._casts(scope, value.name)
        for node in graph.node:
            nodes.append(node)
            for output in node.output:
                nodes += self._casts(scope, output.removesuffix(self.suffix))
        _keep(graph.node, nodes)
        graph.ClearField("value_info")

    def _ports(self, scope: Scope, node: onnx.NodeProto) -> tuple[Ports, Ports]:
        """Return the numbers of the inputs and of the outputs that are half."""
        kept = any(name in self._values for name in (*node.input, *node.output))
        if kept or (node.output and node.output[0] in self._nodes):
            self.kept.append(node)
            return (), ()
        of_shapes = self._is_of_shapes(scope, node)
        if node.op_type in _NEVER_HALF or (of_shapes and node.op_type not in _SIZES):
            return (), ()
        if any(name and scope.home(name) is None for name in (*node.input, *node.output)):
            return (), ()  # of an unknown type, or no tensor: a sequence
        reads, writes = _half_ports(node, self._opsets)
        floats = [port for port, name in enumerate(node.output) if self._is_float(scope, name)]
        if floats:
            return (reads, writes) if any(port in writes for port in floats) else ((), ())
        # shapes and comparisons read the type that is there
        return ((), ()) if any(self._in_fp32(scope, name) for name in node.input) else (reads, ())

    def _is_of_shapes(self, scope: Scope, node: onnx.NodeProto) -> bool:
        """Return whether a node computes with sizes and nothing else: positions must stay exact."""
        content = node.input[: _CONTENT.get(node.op_type)]
        homes = [(scope.home(name), name) for name in content if name]
        sized = [home is not None and (id(home), name) in self._of_shapes for home, name in homes]
        found = node.op_type in _SIZES or (
            any(sized)
            and all(
                size or self._is_weight(scope, n) for size, (_, n) in zip(sized, homes, strict=True)
            )
        )
        if found:
            self._of_shapes.update((id(scope), name) for name in node.output)
        return found

    def _is_weight(self, scope: Scope, name: str) -> bool:
        home = scope.home(name)
        return home is not None and name in self._weights[id(home)]

    def _is_float(self, scope: Scope, name: str) -> bool:
        from onnx import TensorProto

        return scope.kind(name) == int(TensorProto.FLOAT)

    def _in_fp32(self, scope: Scope, name: str) -> bool:
        """Return whether a value is computed in fp32; weights exist in either type."""
        home = scope.home(name)
        if home is None or not self._is_float(home, name) or (id(home), name) in self._halves:
            return False
        return not self._is_weight(home, name)

    def _read(self, scope: Scope, name: str, half: bool) -> str:
        """Note that a float value is read in a type, and return its name in that type."""
        home = scope.home(name)
        if home is None or not self._is_float(home, name):
            return name
        self._reads[id(home), name].add(half)
        return name + self.suffix if half else name

    def _casts(self, scope: Scope, name: str) -> Iterator[onnx.NodeProto]:
        """Return the cast of a value to the type in which it is read but not written."""
        from onnx import TensorProto, helper

        half = (id(scope), name) in self._halves
        if (not half) in self._reads[id(scope), name]:
            ends = (name + self.suffix, name) if half else (name, name + self.suffix)
            kind = TensorProto.FLOAT if half else TensorProto.FLOAT16
            yield helper.make_node("Cast", [ends[0]], [ends[1]], name=f"{ends[1]}_cast", to=kind)


def _half_ports(node: onnx.NodeProto, opsets: dict[str, int]) -> tuple[list[int], list[int]]:
    """Return the inputs and outputs of a node that its operator takes in half, by number."""
    from onnx import defs

    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opsets.get(domain, opsets.get("ai.onnx", 1))
    if not defs.has(node.op_type, version, domain):
        return [], []
    schema = defs.get_schema(node.op_type, version, domain)
    allowed = {each.type_param_str: each.allowed_type_strs for each in schema.type_constraints}

    def ports(formal: Any, count: int) -> list[int]:
        return [
            port
            for port in range(count)
            if formal
            and "tensor(float16)" in allowed.get(formal[min(port, len(formal) - 1)].type_str, ())
        ]

    return ports(schema.inputs, len(node.input)), ports(schema.outputs, len(node.output))


def _convert_attributes(node: onnx.NodeProto) -> None:
    """Let a node that writes half say so, where an attribute says the type of its output."""
    from onnx import TensorProto, helper

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_half_weight(attribute.t, attribute.t.name))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = helper.make_tensor("", TensorProto.FLOAT16, [1], [0.0])
        node.attribute.append(helper.make_attribute("value", zero))


def _half_weight(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(to_half(numpy_helper.to_array(tensor)), name)


def _keep(field: Any, items: list[Any]) -> None:
    """Replace the content of a repeated field."""
    del field[:]
    field.extend(items)
