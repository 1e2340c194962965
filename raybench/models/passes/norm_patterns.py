"""Normalisations made of single ops, as exporters write them: mean of squares, root, division.

Squares leave the range of half precision first, above and below, so the values from the square to
the root stay fp32: `ReduceMean(Mul(d, d)) -> Add(eps) -> Sqrt -> Div(d, .)` of a layer norm,
`ReduceSum(Pow(x, 2)) -> Sqrt -> Reciprocal -> Mul(x, .)` of an RMS norm, `E[x^2] - E[x]^2`, and
divisions by a ReduceL2.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

    from raybench.models.graph.element_types import Scope

_SUMS = ("ReduceMean", "ReduceSum", "GlobalAveragePool")
_SUMS_OF_SQUARES = ("ReduceSumSquare", "ReduceL2")
_MOVING = frozenset({"Identity", "Squeeze", "Unsqueeze", "Reshape", "Expand"})
_INSIDE = _MOVING | {
    *("Mul", "Div", "Add", "Sub", "Sqrt", "Pow", "Reciprocal", "Max", "Min", "Clip")
}


def values_in_norms(top: Scope) -> set[str]:
    """Return the values between the square and the root of every normalisation, both included."""
    return {value for scope in top.walk() for value in _Norms(scope).values()}


class _Norms:
    """The normalisations of one graph."""

    def __init__(self, scope: Scope) -> None:
        self._nodes = list(scope.graph.node)
        self._makers = {output: node for node in self._nodes for output in node.output}
        self._readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self._nodes:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)
        self._constants: dict[str, onnx.TensorProto] = {}
        around: Scope | None = scope
        while around:
            self._constants |= {tensor.name: tensor for tensor in around.graph.initializer}
            around = around.parent

    def values(self) -> set[str]:
        found: set[str] = set()
        for node in self._nodes:
            square = self._makers.get(node.input[0]) if node.input else None
            if node.op_type in _SUMS and square is not None and self._is_square(square):
                found |= self._from_sum(node, {square.output[0]})
            elif node.op_type in _SUMS_OF_SQUARES:
                found |= self._from_sum(node, set())
        return found

    def _from_sum(self, node: onnx.NodeProto, before: set[str]) -> set[str]:
        """Return the values from the sum of squares to the root; none if there is no root."""
        found, rooted = {*before, node.output[0]}, node.op_type == "ReduceL2"
        ends = [node.output[0]]
        while ends:
            end = ends.pop()
            for reader in self._readers[end]:
                others = [name for name in reader.input if name != end and not self._fixed(name)]
                if reader.op_type in ("Mul", "Div") and others:
                    continue  # this applies the norm
                if reader.op_type not in _INSIDE or reader.output[0] in found:
                    continue
                rooted = rooted or self._is_root(reader)
                found.add(reader.output[0])
                ends.append(reader.output[0])
                for other in others:
                    found |= self._squared_mean(other)
        return found if rooted else set()

    def _squared_mean(self, value: str) -> set[str]:
        """Return the square of a mean, which is subtracted from the mean of squares, and the mean.

        What is left of both is small, so the mean is fp32 from its sum on.
        """
        square = self._makers.get(value)
        if square is None or not self._is_square(square):
            return set()
        found, end = {value}, square.input[0]
        while True:
            found.add(end)
            maker = self._makers.get(end)
            if maker is None or maker.op_type not in _INSIDE:
                return found
            varying = [name for name in maker.input if not self._fixed(name)]
            varying = varying[:1] if maker.op_type in _MOVING else varying
            if len(varying) != 1:
                return found
            (end,) = varying

    def _fixed(self, name: str) -> bool:
        maker = self._makers.get(name)
        constant = maker is not None and maker.op_type == "Constant"
        return constant or not name or name in self._constants

    def _is_square(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Mul":
            return bool(node.input[0] == node.input[1])
        return bool(node.op_type == "Pow") and self._number(node.input[1]) == 2

    def _is_root(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Pow":
            return self._number(node.input[1]) in (0.5, -0.5)
        return bool(node.op_type == "Sqrt")

    def _number(self, name: str) -> float | None:
        """Return a constant of one element; None for all else."""
        from onnx import numpy_helper

        tensor = self._constants.get(name)
        maker = self._makers.get(name)
        if tensor is None and maker is not None and maker.op_type == "Constant":
            tensor = next((a.t for a in maker.attribute if a.name == "value"), None)
        if tensor is None or int(np.prod(tensor.dims)) != 1:
            return None
        return float(numpy_helper.to_array(tensor).item())
