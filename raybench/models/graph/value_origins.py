"""Where the values of a graph come from: their types, and the stored tensors and roundings behind them.

Floats that were integers of 8 or fewer bits, stored as such or rounded to them on the way, have no
more than 256 levels, whatever the operators that compute on them say. The values are followed from
the tensors onwards, through every operator and into subgraphs, so that it does not matter how an
exporter unpacks, joins, looks up or scales them.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from raybench.models.graph.element_types import Scope

ROUNDING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""Operators that say themselves that they round."""
CASTS = ("Cast", "CastLike")

_LEAST_ELEMENTS = 17
"""A smaller tensor that is multiplied by nothing holds a shape, axes, a scale or a zero point."""

_NONE_READ = frozenset(["Shape", "Size", "ConstantOfShape", "EyeLike"])
"""Operators whose results are not made of their inputs' values."""
_LOOKUPS = frozenset(["Gather", "GatherElements", "GatherND"])
_FIRST_READ = frozenset(
    [
        "CastLike",
        "Expand",
        "Pad",
        "ReduceL1",
        "ReduceL2",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "SplitToSequence",
        "Squeeze",
        "Tile",
        "TopK",
        "Unsqueeze",
        "Upsample",
    ]
)
"""Operators whose first input alone holds values; the others are shapes, axes, sizes or types."""
_PASSED = frozenset(
    ["Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Slice"]
)
"""Operators between DequantizeLinear and its reader that engines look through."""
_WHOLE = (_PASSED - {"Flatten"}) | {"Cast", "CastLike", "Concat", "Gather", "Mul", "Tile"}
"""Operators that make integers of integers."""

_INTEGERS = ("int8", "int4", "int2")
_WIDE = ("int16", "int32", "int64", "double")
_NAMES = {"FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "double"}


def type_name(kind: int | None) -> str | None:
    """Return the family of an element type, e.g. "int8" for UINT8; None for all that is no concern."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(kind) if kind else ""
    if name in _NAMES:
        return _NAMES[name]
    match = re.fullmatch(r"U?INT(\d+)|FLOAT(4|8)E.*", name)
    if match is None:
        return None
    return f"int{match[1]}" if match[1] else f"float{match[2]}"


class Source(IntEnum):
    """What a value is made of; several together are made of the least of theirs."""

    COMPUTED = 0
    """The graph's inputs, among others."""
    LOOKED_UP = 1
    """Stored tensors, in places that the graph's inputs give."""
    STORED = 2
    """Stored tensors, handed to a subgraph or chosen between."""
    CONSTANT = 3
    """Constants alone."""


@dataclass(frozen=True)
class Origin:
    """What is known of one value.

    Attributes:
        type: family of its element type, as `type_name`.
        source: what it is made of.
        dequantised: type before the DequantizeLinear that it comes from.
        weights: narrow type of a stored tensor from which, as a constant, it is made.
        tensor: name of a stored tensor of narrow integers that it is made of.
        cast: first output of the Cast to a narrow type that rounded it.
        whole: whether it holds integers, as a mask does, so that such a Cast changes nothing.
    """

    type: str | None = None
    source: Source = Source.COMPUTED
    dequantised: str | None = None
    weights: str | None = None
    tensor: str | None = None
    cast: str | None = None
    whole: bool = False

    @property
    def constant(self) -> bool:
        """Whether it follows from constants alone."""
        return self.source == Source.CONSTANT

    @property
    def narrow(self) -> bool:
        """Whether it is made of narrow integers."""
        return bool(self.tensor or self.cast)

    def beyond(self, kind: str | None, source: Source, weights: str | None = None) -> Origin:
        """Return the origin of the same value on the other side of a subgraph's border."""
        return replace(self, type=kind, source=source, weights=weights, dequantised=None)


class ValueOrigins:
    """The origins of the values that the nodes of one graph read and write.

    Attributes:
        scope: the graph, whose nodes are in the order of the data.
        inner: by number of a node, the same of its subgraphs.
        tensors: names of the narrow tensors of which floats are made, here and around.
        roundings: first outputs of the nodes that round them, here and around.
    """

    def __init__(
        self,
        scope: Scope,
        around: ValueOrigins | None = None,
        handed: dict[str, Origin] | None = None,
    ) -> None:
        """Follow the values of a graph.

        Args:
            scope: the graph.
            around: those of the graph around it.
            handed: origins of what the node of a subgraph hands to it, by the subgraph's names.
        """
        self.scope = scope
        self.inner: dict[int, list[ValueOrigins]] = {}
        self.tensors: set[str] = around.tensors if around else set()
        self.roundings: set[str] = around.roundings if around else set()
        self._known: ChainMap[str, Origin] = around._known.new_child() if around else ChainMap()
        for name, origin in (handed or {}).items():
            source = min(origin.source, Source.STORED)
            self._known[name] = origin.beyond(type_name(scope.kind(name)), source)
        self._readers: dict[str, set[str]] = {}
        for tensor in scope.graph.initializer:
            self._known[tensor.name] = _of_tensor(tensor)
        for index, node in enumerate(scope.graph.node):
            for name in node.input:
                self._readers.setdefault(name, set()).add(node.op_type)
            if index in scope.inner:
                self._enter(index, node)
            else:
                self._apply(node)

    def __getitem__(self, name: str) -> Origin:
        """Return the origin of a value."""
        return self._known.get(name) or Origin(type_name(self.scope.kind(name)))

    def quantised_after(self, name: str) -> bool:
        """Return whether every reader of a value quantises it."""
        return self._readers.get(name) == {"QuantizeLinear"}

    def _enter(self, index: int, node: onnx.NodeProto) -> None:
        """Follow the values into a node's subgraphs and out of them."""
        results: dict[str, Origin] = {}
        read = [self[name] for name in node.input if name]
        fixed = all(each.constant for each in read)
        for scope in self.scope.inner[index]:
            pairs = zip(scope.graph.input, node.input, strict=False)
            handed = {value.name: self[name] for value, name in pairs}
            inner = ValueOrigins(scope, self, handed)
            for value, result in _carried(node, scope.graph):
                if inner[result].narrow:
                    handed[value] = inner[result]
                    inner = ValueOrigins(scope, self, handed)
            self.inner.setdefault(index, []).append(inner)
            first = 1 if node.op_type == "Loop" else 0  # after the condition
            for name, value in zip(node.output, scope.graph.output[first:], strict=False):
                made = inner[value.name]
                source = min(made.source, Source.STORED)
                if fixed and source == Source.STORED:
                    source = Source.CONSTANT
                if made.narrow or name not in results:  # in one branch of an If is enough
                    weights = _weights(read) if source == Source.CONSTANT else None
                    results[name] = made.beyond(self._type(node, name), source, weights)
        self._known.update(results)

    def _apply(self, node: onnx.NodeProto) -> None:
        """Find the origins of a node's outputs from those of its inputs."""
        names = _values_read(node)
        read = [self[name] for name in names]
        source = min((each.source for each in read), default=Source.CONSTANT)
        if node.op_type in _LOOKUPS and len(node.input) > 1:
            index = self[node.input[1]]
            source = min(source, max(index.source, Source.LOOKED_UP))
            if index.source >= Source.STORED:  # weights that are places in a code book
                read.append(index)
        elif node.op_type == "Where" and not self[node.input[0]].constant:
            source = min(source, Source.STORED)
        elif node.op_type in _NONE_READ and not all(self[name].constant for name in node.input):
            source = Source.COMPUTED
        whole = bool(read) and all(each.whole for each in read) and node.op_type in _WHOLE
        if node.op_type in CASTS and names and self.scope.kind(names[0]):
            whole = whole or not _is_float(self.scope.kind(names[0]))
        made = Origin(
            source=source,
            dequantised=self._dequantised(node),
            weights=_weights(read) if source == Source.CONSTANT else None,
            tensor=next((each.tensor for each in read if each.tensor and source), None),
            cast=next((each.cast for each in read if each.cast), None),
            whole=whole,
        )
        rounds = node.op_type in CASTS and not source and not whole
        for output in filter(None, node.output):
            self._known[output] = self._written(node, output, made, rounds)

    def _written(self, node: onnx.NodeProto, name: str, made: Origin, rounds: bool) -> Origin:
        """Return the origin of one output, and note of what it is made if it holds floats.

        Args:
            node: the node.
            name: the output.
            made: what its inputs make of it, whatever its type.
            rounds: whether the node would round to a narrow type.
        """
        kind = self.scope.kind(name)
        origin = replace(made, type=self._type(node, name))
        if rounds and type_name(kind) in _INTEGERS:
            origin = replace(origin, cast=made.cast or name)
        if kind == _element("BOOL"):  # a mask and no weight
            origin = Origin(origin.type, made.source)
        elif node.op_type in ROUNDING:
            origin = replace(origin, tensor=None, cast=None, whole=False)
        if not _is_float(kind):
            return origin
        self.tensors.update(filter(None, [origin.tensor]))
        self.roundings.update(filter(None, [origin.cast]))
        return replace(origin, cast=None)

    def _type(self, node: onnx.NodeProto, output: str) -> str | None:
        """Return the family of an output's type; that of the first float read where not inferred."""
        if kind := self.scope.kind(output):
            return type_name(kind)
        kinds = [self[name].type for name in node.input]
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):  # of another domain
            return kinds[2] if len(kinds) > 2 else "int8"
        return next((kind for kind in kinds if kind and "float" in kind), None)

    def _dequantised(self, node: onnx.NodeProto) -> str | None:
        if node.op_type == "DequantizeLinear":
            return self[node.input[0]].type or "int8"
        return self[node.input[0]].dequantised if node.op_type in _PASSED else None


def _weights(read: list[Origin]) -> str | None:
    return next((each.weights for each in reversed(read) if each.weights), None)


def _of_tensor(tensor: onnx.TensorProto) -> Origin:
    kind, elements = type_name(tensor.data_type), math.prod(tensor.dims)
    origin = Origin(kind, Source.CONSTANT)
    if kind is None or kind in _WIDE or elements < 2 or _is_mask(tensor):
        return origin
    substantial = kind in _INTEGERS and elements >= _LEAST_ELEMENTS
    return replace(origin, weights=kind, tensor=tensor.name if substantial else None)


def _is_mask(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor holds bytes that are all 0 or 1; False where they were not read."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_type not in (TensorProto.INT8, TensorProto.UINT8):
        return False
    if tensor.data_location == TensorProto.EXTERNAL:
        return False
    try:
        values = numpy_helper.to_array(tensor)
    except ValueError:  # without its values
        return False
    return not ((values < 0) | (values > 1)).any()


def _carried(node: onnx.NodeProto, body: onnx.GraphProto) -> list[tuple[str, str]]:
    """Return the values that a loop hands to its next turn: names at the start and at the end of one."""
    if node.op_type == "Loop":  # its first two inputs count and stop; its first output stops
        starts, ends = body.input[2 : len(node.input)], body.output[1:]
    elif node.op_type == "Scan":
        scanned = next((each.i for each in node.attribute if each.name == "num_scan_inputs"), 0)
        starts, ends = body.input[: len(node.input) - scanned], body.output
    else:
        return []
    return [(start.name, end.name) for start, end in zip(starts, ends, strict=False)]


def _values_read(node: onnx.NodeProto) -> list[str]:
    """Return the inputs that hold the values of which a node's outputs are made."""
    if node.op_type in _NONE_READ:
        return []
    if node.op_type in _FIRST_READ or node.op_type in _LOOKUPS:
        return list(node.input[:1])
    if node.op_type == "Where":
        return list(node.input[1:])
    return [name for name in node.input if name]


def _element(name: str) -> int:
    from onnx import TensorProto

    return int(TensorProto.DataType.Value(name))


def _is_float(kind: int) -> bool:
    return kind in (_element("FLOAT"), _element("DOUBLE"))
