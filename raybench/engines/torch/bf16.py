"""Where a graph that is written in fp32 computes in bf16.

The rule is that of PyTorch's autocast: products compute in bf16, sums over many elements and powers in
fp32, and everything else in the type of the data that it is given. Unlike autocast it is applied once,
while the graph is written, so that weights are stored in bf16 and no type is chosen in the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.engines.torch.writer import FxWriter, Value
    from raybench.models.graph.operations import Operation

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_IN_FP32 = frozenset(
    {
        "CumSum", "Exp", "Log", "LRN", "Pow", "Reciprocal", "ReduceL1", "ReduceL2",
        "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Sqrt",
    }
)  # fmt: skip
_MOVES = frozenset(
    {
        "Concat",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_MATRIX = 2
_CONTENT = {"Resize": 1, "Upsample": 1, "Range": 0}
"""How many of the inputs are content, where the others say a shape."""


def weights_of_products(operations: Sequence[Operation]) -> frozenset[str]:
    """Return the values that only products read, or lookups, whatever moves them on the way.

    Constants among them are cast before they are moved, so that one that is read twice, such as the
    table of an embedding that is the head as well, is stored once.
    """
    found: set[str] = set()
    others: set[str] = set()
    for operation in reversed(operations):
        lookup = operation.kind == "Gather"
        moved = operation.kind in _MOVES and found.issuperset(filter(None, operation.outputs))
        narrow = operation.kind in _PRODUCTS or lookup or moved
        (found if narrow else others).update(operation.inputs)
    return frozenset(found - others)


def matrices(operations: Sequence[Operation]) -> frozenset[str]:
    """Return the values that nothing reads but a matrix product, as its second operand."""
    second = {each.inputs[1] for each in operations if each.kind == "MatMul"}
    others = {
        name
        for each in operations
        for place, name in enumerate(each.inputs)
        if each.kind != "MatMul" or place != 1
    }
    return frozenset(second - others)


class Bf16Types:
    """The types of one graph that is written in fp32 and computes in bf16.

    Args:
        writer: of the graph.
    """

    def __init__(self, writer: FxWriter) -> None:
        self._writer = writer
        self._cast: dict[tuple[int, Any], tuple[Value, Value]] = {}  # the first keeps the key valid

    def narrow(self, value: Value) -> Value:
        """Return a value in bf16, if it is in fp32."""
        return self._to(value, torch.bfloat16)

    def by_columns(self, value: Value) -> Value:
        """Return a matrix of bf16 with each of its columns in one piece.

        Products with few rows are then faster on a core: one row times 576 x 1536 takes 113 us instead of
        170, a step of decoder_125m 26 ms instead of 33.
        """
        if value.rank != _MATRIX or value.dtype != torch.bfloat16:
            return value
        made: Value = self._writer.call(laid_by_columns, value)
        return made

    def inputs(self, kind: str, inputs: Sequence[Value | None]) -> list[Value | None]:
        """Return the inputs of an operation in the types that it computes with."""
        content = _CONTENT.get(kind, len(inputs))
        wanted = _type(kind, [value for value in inputs[:content] if value is not None])
        return [
            self._to(value, wanted) if value is not None and index < content else value
            for index, value in enumerate(inputs)
        ]

    def _to(self, value: Value, dtype: Any) -> Value:
        """Return a value in a type, a constant of two readers once."""
        if not _is_float(value) or value.dtype == dtype:
            return value
        key = (id(value), dtype)
        if key not in self._cast:
            function = (
                finite_bf16 if value.constant and dtype == torch.bfloat16 else torch.Tensor.to
            )
            self._cast[key] = (value, self._writer.call(function, value, dtype))
        return self._cast[key][1]


def laid_by_columns(matrix: Any) -> Any:
    """Return a matrix whose columns are contiguous."""
    return matrix.t().contiguous().t()


def finite_bf16(tensor: Any, dtype: Any) -> Any:
    """Return a constant in bf16; finite numbers stay finite, as masks of the lowest number must."""
    made = tensor.to(dtype)
    if not tensor.numel() or torch.isfinite(made).all():
        return made
    most = torch.finfo(dtype).max
    return torch.where(torch.isfinite(tensor), made.clamp(-most, most), made)


def _type(kind: str, values: Sequence[Value]) -> Any:
    """Return the float type of an operation: the widest of its data, and that of constants alone."""
    if kind in _PRODUCTS:
        return torch.bfloat16
    if kind in _IN_FP32:
        return torch.float32
    varying = [value for value in values if not value.constant]
    data = [value for value in varying if _is_float(value)]
    if not data and varying:  # a lookup
        return torch.bfloat16
    types = {value.dtype for value in data or values}
    return torch.bfloat16 if types and torch.float32 not in types else torch.float32


def _is_float(value: Value) -> bool:
    return value.dtype in (torch.float32, torch.bfloat16)
