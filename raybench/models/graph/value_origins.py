"""Where the values of a graph come from: their types, the constants and Q/DQ behind them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from raybench.models.graph.element_types import Scope

_PASSED = frozenset(
    ["Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Slice"]
)
"""Operators between DequantizeLinear and its reader that engines look through."""

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


def is_mask(tensor: onnx.TensorProto) -> bool:
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


class ValueOrigins:
    """Questions about the values that the nodes of one scope read and write."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._makers: dict[str, onnx.NodeProto] = {}
        self._constants: dict[str, int] = {}  # numbers of elements
        self._readers: dict[str, list[str]] = {}
        self._known: dict[str, str | None] = {}
        around: Scope | None = scope
        while around is not None:
            for node in around.graph.node:
                for output in node.output:
                    self._makers.setdefault(output, node)
            for tensor in around.graph.initializer:
                size = 0 if is_mask(tensor) else math.prod(tensor.dims)
                self._constants.setdefault(tensor.name, size)
            around = around.parent
        for node in scope.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node.op_type)

    def type(self, name: str) -> str | None:
        """Return the family of a value's type; that of its maker's first float where not inferred."""
        if name not in self._known:
            self._known[name] = None  # a graph that feeds itself is broken and ends here
            kind = self._scope.kind(name)
            self._known[name] = type_name(kind) if kind else self._guess(name)
        return self._known[name]

    def _guess(self, name: str) -> str | None:
        maker = self._makers.get(name)
        if maker is None:
            return None
        if maker.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):  # of another domain
            return self.type(maker.input[2]) if len(maker.input) > 2 else "int8"
        kinds = (self.type(each) for each in maker.input)
        return next((kind for kind in kinds if kind and "float" in kind), None)

    def dequantised(self, name: str) -> str | None:
        """Return the type before DequantizeLinear; None for a value that does not come from it."""
        maker = self._makers.get(name)
        while maker is not None and maker.op_type in _PASSED:
            name = maker.input[0]
            maker = self._makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        return self.type(maker.input[0]) or "int8"

    def stored(self, name: str) -> str | None:
        """Return the narrow type of a stored tensor from which a constant is made, in whatever way.

        Exporters restore weights by Cast and Mul, from packed bits, from parts or by a code book. What
        passes a boolean is a mask and no weight.
        """
        pending, seen = [name], set()
        while pending:
            name = pending.pop()
            kind = self.type(name)
            narrow = kind is not None and self._narrow_constant(kind)
            if narrow and self._constants.get(name, 0) > 1:
                return kind
            maker = self._makers.get(name)
            if maker is None or name in seen or self._is_mask(name) or not self.constant(name):
                continue
            seen.add(name)
            pending += self._content(maker)
        return None

    def _is_mask(self, name: str) -> bool:
        from onnx import TensorProto

        return self._scope.kind(name) == int(TensorProto.BOOL)

    @staticmethod
    def _content(node: onnx.NodeProto) -> list[str]:
        """Return the inputs that decide the values of a node's outputs, and not their type or shape."""
        return list(node.input[:1] if node.op_type in (*_PASSED, "CastLike") else node.input)

    @staticmethod
    def _narrow_constant(kind: str) -> bool:
        return kind not in ("int16", "int32", "int64", "double")

    def constant(self, name: str) -> bool:
        """Return whether a value follows from constants alone."""
        pending, seen = [name], set()
        while pending:
            name = pending.pop()
            if not name or name in self._constants or name in seen:
                continue
            seen.add(name)
            maker = self._makers.get(name)
            if maker is None:
                return False
            pending += self._content(maker)
        return True

    def quantised_after(self, name: str) -> bool:
        """Return whether every reader of a value quantises it."""
        return set(self._readers.get(name, [])) == {"QuantizeLinear"}
