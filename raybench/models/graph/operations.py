"""A prepared graph as plain data, for an engine that builds it anew from a table of operators."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

    Array = np.ndarray[Any, Any]

_OWN_DOMAINS = ("", "ai.onnx")
_TYPES = ("to", "dtype")
"""Attributes that hold an element type as a number."""


@dataclass(frozen=True)
class Operation:
    """One node of a graph.

    Attributes:
        kind: its operator, e.g. "Conv"; after its domain unless that is ONNX's own.
        name: of the node.
        inputs: names of values; empty for one that is left out.
        outputs: names of values; empty for one that nobody wants.
        attributes: numbers, texts, arrays and lists of them by name; element types by numpy's name.
            Graphs inside the node are left out.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OperationGraph:
    """A graph in normal form.

    Attributes:
        opset: version of ONNX's own operators.
        outputs: names of the graph's outputs, in order.
        operations: in the order of the data.
        weights: constants by name. Those in external files are mapped, not read: nothing of them
            is in memory twice, and processes of one node share it.
    """

    opset: int
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    weights: Mapping[str, Array]


def read_operations(path: Path) -> OperationGraph:
    """Read a graph that `prepare` has written."""
    import onnx

    proto = onnx.load(path, load_external_data=False)
    files: dict[str, Array] = {}
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    graph = proto.graph
    return OperationGraph(
        opset=next((opsets[domain] for domain in _OWN_DOMAINS if domain in opsets), 1),
        outputs=tuple(value.name for value in graph.output),
        operations=tuple(_operation(node) for node in graph.node),
        weights={tensor.name: _weight(tensor, path.parent, files) for tensor in graph.initializer},
    )


def _operation(node: onnx.NodeProto) -> Operation:
    foreign = node.domain not in _OWN_DOMAINS
    return Operation(
        kind=f"{node.domain}.{node.op_type}" if foreign else node.op_type,
        name=node.name,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={
            attribute.name: _value(attribute)
            for attribute in node.attribute
            if not attribute.HasField("g") and not attribute.graphs
        },
    )


def _value(attribute: onnx.AttributeProto) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode()
    if attribute.name in _TYPES and isinstance(value, int):
        return helper.tensor_dtype_to_np_dtype(value).name
    if isinstance(value, (int, float)):
        return value
    return [item.decode() if isinstance(item, bytes) else item for item in value]


def _weight(tensor: onnx.TensorProto, folder: Path, files: dict[str, Array]) -> Array:
    """Return a tensor's values, which may be written to: libraries warn of arrays that may not."""
    from onnx import helper, numpy_helper
    from onnx.external_data_helper import uses_external_data

    if not uses_external_data(tensor):
        array: Array = numpy_helper.to_array(tensor)
        return array if array.flags.writeable else array.copy()
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, offset = entries["location"], int(entries.get("offset") or 0)
    if location not in files:
        files[location] = np.memmap(folder / location, np.uint8, "c")  # changes stay in memory
    end = offset + math.prod(tensor.dims) * dtype.itemsize
    raw = np.asarray(files[location][offset:end])
    if raw.ctypes.data % dtype.itemsize:
        raw = raw.copy()
    values: Array = raw.view(dtype).reshape(tuple(tensor.dims))
    return values
