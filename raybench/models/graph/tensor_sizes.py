"""Whether stored tensors have as many values as their shapes need."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.errors import ModelError
from raybench.models.graph.graph_walk import initializers, tensors

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

_BITS = {
    "FLOAT": 32, "DOUBLE": 64, "FLOAT16": 16, "BFLOAT16": 16, "BOOL": 8, "INT8": 8, "INT16": 16,
    "INT32": 32, "INT64": 64, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64,
}  # fmt: skip
"""Bits of a stored value, by type; others are packed or have no fixed size."""


def refuse_damaged(path: Path, proto: onnx.ModelProto) -> None:
    """Raise ModelError if a stored tensor has another number of values than its shape needs.

    Nothing else may read it: a shape of a billion values makes libraries take the memory for it.
    """
    for tensor in tensors(proto.graph):
        needed, stored = _sizes(tensor)
        if stored is not None and needed != stored:
            raise ModelError(
                f"Model file {str(path)!r} is damaged: its constant {tensor.name!r} of shape {list(tensor.dims)} "
                f"needs {needed} bytes and has {stored}. Copy or export it again."
            )


def stored_bytes(proto: onnx.ModelProto) -> int:
    """Return the bytes of the weights and constants of a graph; external ones need not be loaded."""
    from onnx.external_data_helper import uses_external_data

    total = 0
    for tensor in initializers(proto.graph):
        needed, stored = _sizes(tensor)
        packed = stored is None and not uses_external_data(tensor)
        total += tensor.ByteSize() if packed else needed
    return total


def _sizes(tensor: onnx.TensorProto) -> tuple[int, int | None]:
    """Return the bytes that a tensor's shape needs and those stored; None if they are not known."""
    from onnx import helper
    from onnx.external_data_helper import uses_external_data

    elements = math.prod(tensor.dims) if min(tensor.dims, default=0) >= 0 else -1
    bits = _BITS.get(helper.tensor_dtype_to_string(tensor.data_type).removeprefix("TensorProto."))
    if bits is None:  # no type has more than eight values a byte
        most = 8 * tensor.ByteSize()
        return (0, None) if elements <= most else (elements // 8, most // 8)
    needed = elements * bits // 8
    if uses_external_data(tensor):
        lengths = [entry.value for entry in tensor.external_data if entry.key == "length"]
        return needed, int(lengths[0]) if lengths else None
    if tensor.HasField("raw_data"):
        return needed, len(tensor.raw_data)
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data)
    values = sum(map(len, (*fields, tensor.double_data, tensor.uint64_data)))
    return needed, values * bits // 8
