"""Floats that were integers of 8 or fewer bits: stored as such, or rounded to them on the way.

Such a graph computes in fp32 on values that have no more than 256 levels, whatever its operators say.
The values are followed from the tensors onwards, through every operator and into subgraphs, so that it
does not matter how an exporter unpacks, joins, looks up or scales them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.models.graph.value_origins import is_mask

if TYPE_CHECKING:
    import onnx

    from raybench.models.graph.element_types import Scope

_LEAST_ELEMENTS = 17
"""A smaller tensor holds a shape, axes, a scale or a zero point."""

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
_NARROW = frozenset(["INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2"])
_CASTS = ("Cast", "CastLike")
_NAMED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""Operators that say themselves that they round."""
_WHOLE = frozenset(
    [
        "Cast",
        "CastLike",
        "Concat",
        "Expand",
        "Gather",
        "Identity",
        "Mul",
        "Reshape",
        "Slice",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators that make integers of integers."""


@dataclass(frozen=True)
class _Known:
    """What is known of one value.

    Attributes:
        stored: whether it follows from stored tensors alone, or is looked up in them.
        tensor: the narrow stored tensor that it is made of.
        cast: first output of the Cast to a narrow type that rounded it.
        whole: whether it holds integers, as a mask does, so that such a Cast changes nothing.
        looked_up: whether inputs chose it among stored values.
    """

    stored: bool = False
    tensor: str | None = None
    cast: str | None = None
    whole: bool = False
    looked_up: bool = False


_NOTHING = _Known()


class NarrowValues:
    """The narrow tensors and the roundings of a graph of which floats are made.

    Attributes:
        tensors: names of the tensors.
        roundings: first outputs of the nodes that round.
    """

    def __init__(self, outermost: Scope) -> None:
        """Follow the values of a graph, whose nodes are in the order of the data."""
        self.tensors: set[str] = set()
        self.roundings: set[str] = set()
        self._values: dict[str, _Known] = {}
        self._follow(outermost)

    def _follow(self, scope: Scope) -> None:
        for tensor in scope.graph.initializer:
            substantial = math.prod(tensor.dims) >= _LEAST_ELEMENTS and not is_mask(tensor)
            narrow = _is_narrow(tensor.data_type) and substantial
            self._values[tensor.name] = _Known(True, tensor.name if narrow else None)
        for index, node in enumerate(scope.graph.node):
            inner = scope.inner.get(index, ())
            if not inner:
                self._apply(node, scope)
            results: dict[str, _Known] = {}
            for each in inner:
                for name, value in zip(node.input, each.graph.input, strict=False):
                    self._values[value.name] = self._known(name)
                self._follow(each)
                for value, result in _carried(node, each.graph):
                    if self._known(result).tensor or self._known(result).cast:
                        self._values[value] = self._known(result)
                        self._follow(each)
                first = 1 if node.op_type == "Loop" else 0  # after the condition
                for name, value in zip(node.output, each.graph.output[first:], strict=False):
                    known = self._known(value.name)
                    if known.tensor or known.cast:  # in one branch of an If is enough
                        results[name] = known
                    results.setdefault(name, known)
            self._values |= results

    def _known(self, name: str) -> _Known:
        return self._values.get(name, _NOTHING)

    def _apply(self, node: onnx.NodeProto, scope: Scope) -> None:
        names = _values_read(node)
        read = [self._known(name) for name in names]
        stored = all(each.stored for each in read) and node.op_type not in _NONE_READ
        looked_up = any(each.looked_up for each in read)
        if node.op_type in _LOOKUPS and len(node.input) > 1:
            index = self._known(node.input[1])
            if index.stored and not index.looked_up:  # weights that are places in a code book
                read.append(index)
            else:
                looked_up = True
        tensor = next((each.tensor for each in read if each.tensor), None) if stored else None
        cast = next((each.cast for each in read if each.cast), None)
        whole = bool(read) and all(each.whole for each in read) and node.op_type in _WHOLE
        if node.op_type in _CASTS and names and scope.kind(names[0]):
            whole = whole or not _is_float(scope.kind(names[0]))
        for output in filter(None, node.output):
            kind = scope.kind(output)
            rounds = node.op_type in _CASTS and _is_narrow(kind) and not stored and not whole
            cast_here = cast or (output if rounds else None)
            known = _Known(stored, tensor, cast_here, whole, looked_up)
            if _is_bool(kind) or node.op_type in _NAMED:
                known = _Known(stored, looked_up=looked_up)
            if _is_float(kind):
                self.tensors |= {known.tensor} if known.tensor else set()
                self.roundings |= {known.cast} if known.cast else set()
                known = replace(known, cast=None)
            self._values[output] = known


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


def _is_bool(kind: int) -> bool:
    from onnx import TensorProto

    return kind == int(TensorProto.BOOL)


def _is_float(kind: int) -> bool:
    from onnx import TensorProto

    return kind in (TensorProto.FLOAT, TensorProto.DOUBLE)


def _is_narrow(kind: int) -> bool:
    from onnx import TensorProto

    return bool(kind) and TensorProto.DataType.Name(kind) in _NARROW
