"""What a graph computes in: the element types of its operators, seen in the graph itself.

A row's precision is what this finds, and never only what was asked for. An operator computes in a
reduced type if it is a quantised operator of any domain, if its operands come through
DequantizeLinear (an engine then computes on the integers), or if it reads or writes half precision.
Operators that only move values, and Q/DQ and Cast themselves, compute nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.experiment import INT8_WEIGHTS, QUANTISED
from raybench.models.graph.element_types import scopes
from raybench.models.graph.graph_walk import varying, walk
from raybench.models.graph.macs import macs_of
from raybench.models.graph.shape_inference import infer_sizes, skeleton
from raybench.models.graph.value_origins import CASTS, ROUNDING, ValueOrigins, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

_MOVING = frozenset(
    [
        "Cast",
        "CastLike",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DepthToSpace",
        "DequantizeLinear",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "If",
        "Loop",
        "Pad",
        "QuantizeLinear",
        "Reshape",
        "Scan",
        "ScatterElements",
        "ScatterND",
        "SequenceAt",
        "Shape",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
_QUANTISED = re.compile(r"Q[A-Z]|(?i:.*(quant|integer|nbits|bnb4|fpq4|float8|bfp))")
"""Names of operators that multiply integers, or floats by quantised weights, in any domain."""
_CASTS = (*CASTS, "BitCast")
_BITS = ("bits", "expert_weight_bits")
"""Attributes with the width of weights that an operator reads beside float activations."""
_FOUR_BITS = ("MatMulBnb4", "MatMulFpQ4")

_WEIGHTED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Einsum",
        "DeformConv",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "MultiHeadAttention",
    ]
)
"""Operators whose first two inputs are multiplied."""
_ARITHMETIC = frozenset(["Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool"])
"""Operators without weights that engines compute on integers between Q and DQ."""

_REDUCED_FLOATS = ("float4", "float8", "float16", "bfloat16")
_STORED_REDUCED = (*_REDUCED_FLOATS, "double", "int4", "int2")
_NARROW = ("int8", "int4", "int2", "float8", "float4")
_WEIGHTS = " weights"
"""Ending of the type of an operator of which the weights alone are reduced."""
_PRECISIONS = {"float16": "fp16", "bfloat16": "bf16", "int8": "int8", "float8": "fp8"}


@dataclass(frozen=True)
class ReducedNode:
    """A node that does not compute in fp32.

    Attributes:
        kind: its operator.
        type: element type that it computes in, e.g. "int8"; "int4 weights" where its weights alone
            are reduced.
        where: the node in words, with its subgraph.
        output: name of its first output that has one.
        rounds: whether it only rounds values to the type.
    """

    kind: str
    type: str
    where: str
    output: str
    rounds: bool = False

    @property
    def in_words(self) -> str:
        """What it is and what it does, e.g. "node 'fc' (MatMul) computes in int8"."""
        verb = (
            "has" if self.type.endswith(_WEIGHTS) else "rounds to" if self.rounds else "computes in"
        )
        return f"{self.where} ({self.kind}) {verb} {self.type}"

    @property
    def label(self) -> str:
        """Operator and type, e.g. "Conv:int8"."""
        return f"{self.kind}:{self.type}"


@dataclass(frozen=True)
class GraphTypes:
    """What a graph computes in.

    Attributes:
        nodes: that do not compute in fp32, in the graph's order.
        rounding: nodes that round values to a reduced type and weights stored in one, where that is
            all that is reduced; empty beside `nodes`.
        weighted: kinds of operators of the graph that multiply, sorted.
        macs: multiply-accumulates by a node's first output, in a quantised graph.
        total_macs: of all its nodes together that constants alone do not decide; None where unknown.
        floats: kinds of operators that multiply floats, sorted.
    """

    nodes: tuple[ReducedNode, ...]
    rounding: tuple[ReducedNode, ...]
    weighted: tuple[str, ...]
    macs: Mapping[str, int | None]
    total_macs: int | None
    floats: tuple[str, ...] = ()

    @property
    def first(self) -> ReducedNode | None:
        """The first node that is reduced; None in an fp32 graph."""
        return next(iter(self.nodes or self.rounding), None)

    @property
    def reduced_ops(self) -> tuple[str, ...]:
        """Operators with types, e.g. "Conv:int8", sorted and each once."""
        return tuple(sorted({node.label for node in self.nodes or self.rounding}))

    @property
    def precision(self) -> str:
        """The precision that a row of this graph may claim.

        "fp32", "fp16", "bf16", "int8" or "fp8"; "int8_fp16" for those two, "int8_weights" where
        no more than weights is reduced, "mixed" for others, and
        "rounded" for a graph that rounds values and computes in fp32.
        """
        kinds = {node.type for node in self.nodes}
        if kinds == {f"int8{_WEIGHTS}"}:
            return INT8_WEIGHTS
        whole = {kind for kind in kinds if not kind.endswith(_WEIGHTS)} or kinds
        found = {_PRECISIONS.get(kind, "mixed") for kind in whole}
        if not found:
            return "rounded" if self.rounding else "fp32"
        if found == {"int8", "fp16"}:
            return "int8_fp16"
        return found.pop() if len(found) == 1 else "mixed"

    @property
    def quantised_macs_frac(self) -> float | None:
        """The share of the multiply-accumulates with operands of 8 or fewer bits on both sides.

        0.0 if no operator is quantised; None if the MACs of one, or of the graph, are unknown.
        """
        outputs = [node.output for node in self.nodes if node.type in _NARROW]
        if not outputs:
            return 0.0
        macs = [self.macs.get(output) for output in outputs]
        if not self.total_macs or None in macs:
            return None
        return min(1.0, sum(share or 0 for share in macs) / self.total_macs)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the row of an int8 graph must say, a sentence each."""
        if (
            self.precision not in QUANTISED
            or not self.floats
            or self.quantised_macs_frac is not None
        ):
            return ()
        return (
            f"Products of floats are left in the {self.precision} graph ({', '.join(self.floats)}), and the "
            "share of "
            "the multiply-accumulates that are int8 is unknown.",
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What a row says of the graph, as JSON values."""
        return {
            "reduced_ops": list(self.reduced_ops),
            "quantised_macs_frac": self.quantised_macs_frac,
            "type_notes": list(self.notes),
        }


def weighted_kinds(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Return the kinds of operators of a graph and its subgraphs that have weights, sorted."""
    kinds = {node.op_type for node in walk(graph)}
    return tuple(sorted(kind for kind in kinds if kind in _WEIGHTED or "Tree" in kind))


def _is_weighted(node: onnx.NodeProto) -> bool:
    """Return whether a node of any domain multiplies its inputs, to judge by its name."""
    return node.op_type in _WEIGHTED or node.op_type.endswith(("MatMul", "Gemm", "Attention"))


def graph_types(model: onnx.ModelProto) -> GraphTypes:
    """Return what a graph computes in, with its nodes in the order of the data; weights need no values."""
    places = list(_places(ValueOrigins(scopes(model)), ""))
    nodes = tuple(node for values, place in places for node in _computing(values, place))
    rounding = tuple(node for values, place in places for node in _rounding(values, place))
    macs: dict[str, int | None] = {}
    total: int | None = None
    if any(node.type in _NARROW for node in nodes):
        shapes = infer_sizes(skeleton(model), batch=1)
        macs = {_output(node): macs_of(node, shapes) for node in walk(model.graph)}
        at_run = {_output(node) for node in varying(model.graph)}
        macs |= {_output(node): 0 for node in model.graph.node if _output(node) not in at_run}
        shares = [macs[name] for name in at_run]
        total = None if None in shares else sum(share or 0 for share in shares)
    whole = (node for node in nodes if not node.type.endswith(_WEIGHTS))
    integers = {node.output for node in whole if node.type not in _REDUCED_FLOATS}
    floats = {
        node.op_type
        for node in walk(model.graph)
        if _is_weighted(node) and _output(node) not in integers and macs.get(_output(node)) != 0
    }
    kinds = weighted_kinds(model.graph)
    return GraphTypes(nodes, () if nodes else rounding, kinds, macs, total, tuple(sorted(floats)))


def _places(values: ValueOrigins, place: str) -> Iterator[tuple[ValueOrigins, str]]:
    """Return each graph's values with its place in words, e.g. " in a subgraph of If 'choose'"."""
    yield values, place
    for index, inner in values.inner.items():
        node = values.scope.graph.node[index]
        for each in inner:
            yield from _places(each, f" in a subgraph of {node.op_type} {_name(node)!r}")


def _name(node: onnx.NodeProto) -> str:
    return node.name or _output(node)


def _computing(values: ValueOrigins, place: str) -> Iterator[ReducedNode]:
    for node in values.scope.graph.node:
        kind = _quantised_operator(node, values) or _of_operands(node, values)
        kind = kind or _half(node, values) or _stored(node, values)
        if kind is not None:
            yield _found(node, kind, place)


def _rounding(values: ValueOrigins, place: str) -> Iterator[ReducedNode]:
    """Return what holds reduced values in a graph that computes in fp32."""
    for node in values.scope.graph.node:
        if node.op_type in _CASTS:
            kind = values[node.output[0]].type or values[node.input[-1]].type
            kind = kind if kind in _REDUCED_FLOATS else None
            kind = kind or ("int8" if node.output[0] in values.roundings else None)
        elif node.op_type in ROUNDING:
            whole = node.input if node.op_type == "DequantizeLinear" else node.output
            kind = values[whole[0]].type or "int8"
        else:
            continue
        if kind is not None:
            yield _found(node, kind, place)
    for tensor in values.scope.graph.initializer:
        kind = type_name(tensor.data_type) or ""
        reduced = math.prod(tensor.dims) > 1 and kind in _STORED_REDUCED
        if reduced or (kind == "int8" and tensor.name in values.tensors):
            where = f"initialiser {tensor.name!r}{place}"
            yield ReducedNode("Constant", kind + _WEIGHTS, where, tensor.name)


def _found(node: onnx.NodeProto, kind: str, place: str) -> ReducedNode:
    where = f"node {_name(node)!r}{place}"
    rounds = node.op_type in (*ROUNDING, *_CASTS)
    return ReducedNode(node.op_type, kind, where, _output(node), rounds)


def _output(node: onnx.NodeProto) -> str:
    return next((name for name in node.output if name), "")


def _quantised_operator(node: onnx.NodeProto, values: ValueOrigins) -> str | None:
    """Return the type of an operator that is quantised by its name, whatever its domain."""
    if node.op_type in ROUNDING or not _QUANTISED.match(node.op_type):
        return None
    bits = next((a.i for a in node.attribute if a.name in _BITS), None)
    if bits is None and node.op_type in _FOUR_BITS:
        bits = 4
    if bits is not None:
        return f"int{bits}{_WEIGHTS}"
    kinds = {values[name].type for name in node.input}
    found = next((kind for kind in ("int4", "int8", "int16") if kind in kinds), None)
    return found or ("float8" if re.search("(?i)fp8|float8", node.op_type) else "int8")


def _of_operands(node: onnx.NodeProto, values: ValueOrigins) -> str | None:
    """Return the type of an operator whose operands come through DequantizeLinear."""
    if node.op_type in _ARITHMETIC:
        kinds = [values[name].dequantised for name in node.input if name]
        quantised = all(kinds) and values.quantised_after(node.output[0])
        return _wider(kinds) if quantised else None
    if node.op_type == "Gather":
        kind = values[node.input[0]].dequantised
        return kind + _WEIGHTS if kind and values[node.input[0]].constant else None
    if node.op_type not in _WEIGHTED or len(node.input) < 2:
        return None
    kinds = [values[name].dequantised for name in node.input[:2]]
    if all(kinds):
        return _wider(kinds)
    constant = (
        kind for kind, name in zip(kinds, node.input, strict=False) if values[name].constant
    )
    weights = next((kind for kind in constant if kind), None)
    return None if weights is None else weights + _WEIGHTS


def _stored(node: onnx.NodeProto, values: ValueOrigins) -> str | None:
    """Return the type of an operator that computes in fp32 on weights stored in a narrower type."""
    if not _is_weighted(node):
        return None
    kinds = (values[name].weights for name in node.input[:2] if name)
    weights = next((kind for kind in kinds if kind), None)
    return None if weights is None else weights + _WEIGHTS


def _wider(kinds: list[str | None]) -> str:
    order = ("float4", "int2", "int4", "float8", "int8", "int16", "int32")
    return max((kind for kind in kinds if kind), key=order.index)


def _half(node: onnx.NodeProto, values: ValueOrigins) -> str | None:
    """Return the type of an operator that reads or writes half precision or other odd floats."""
    if node.op_type in _MOVING:
        return None
    kinds = {values[name].type for name in (*node.input, *node.output)}
    found = next((kind for kind in _REDUCED_FLOATS if kind in kinds), None)
    if found is None and node.op_type in _WEIGHTED:
        if "double" in kinds:
            return "double"
        of_int32 = values[node.output[0]].type == "int32"  # int64 counts and numbers things
        return "int32" if of_int32 and not values[node.output[0]].constant else None
    return found
