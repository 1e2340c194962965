"""Value ranges of a model's integer inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError, nearest
from raybench.models.graph.graph_walk import initializers, walk
from raybench.models.shapes.shape_request import setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx

    from raybench.models.model import TensorSpec

_THROUGH = frozenset(
    {
        "Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Expand",
        "Slice", "Split", "Tile", "Concat", "Gather",
    }
)  # fmt: skip
"""Ops that pass indices on unchanged."""

_TABLES = frozenset({"Cast", "Identity", "DequantizeLinear"})
"""Ops after which a table has as many rows as before."""


def index_limits(model: onnx.ModelProto, inputs: Iterable[str]) -> dict[str, int]:
    """Return the number of valid indices of each input that indexes a table of weights (Gather).

    An input that feeds several tables gets the smallest; one that feeds none is left out.
    """
    sizes = {tensor.name: tuple(tensor.dims) for tensor in initializers(model.graph)}
    for node in walk(model.graph):
        if node.op_type in _TABLES and node.input and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    limits: dict[str, int] = {}
    for name in inputs:
        rows = _rows(model.graph, {name}, sizes)
        if rows:
            limits[name] = min(rows)
    return limits


def _rows(
    graph: onnx.GraphProto, carriers: set[str], sizes: Mapping[str, tuple[int, ...]]
) -> list[int]:
    """Return the rows of each table that the carriers of one input's values index.

    Args:
        graph: the graph or one inside it; ONNX keeps nodes in topological order.
        carriers: names of the values; those that the graph adds are added.
        sizes: shapes of the tables by name.
    """
    rows = []
    for node in graph.node:
        gathers = node.op_type in ("Gather", "GatherElements") and len(node.input) > 1
        if gathers and node.input[1] in carriers and node.input[0] in sizes:
            rows.append(int(sizes[node.input[0]][_axis(node)]))
        elif node.op_type in _THROUGH and carriers.intersection(
            node.input if node.op_type == "Concat" else node.input[:1]
        ):
            carriers.update(node.output)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rows += _rows_inside(node, attribute.g, carriers, sizes)
    return rows


def _rows_inside(
    node: onnx.NodeProto,
    inner: onnx.GraphProto,
    carriers: set[str],
    sizes: Mapping[str, tuple[int, ...]],
) -> list[int]:
    """Follow carriers into a branch or the body of a loop, and out of a branch again."""
    if node.op_type in ("Loop", "Scan"):
        pairs = zip(node.input, inner.input, strict=False)
        carriers.update(own.name for given, own in pairs if given in carriers)
    rows = _rows(inner, carriers, sizes)
    if node.op_type == "If":
        pairs_out = zip(inner.output, node.output, strict=False)
        carriers.update(outer for own, outer in pairs_out if own.name in carriers)
    return rows


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def integer_ranges(
    model: str,
    inputs: Sequence[TensorSpec],
    limits: Mapping[str, int],
    given: Mapping[str, Sequence[int]],
) -> dict[str, tuple[int, int]]:
    """Return the lowest and highest value of each integer input.

    A given range comes first, then the table that the input indexes, then the type: all values of
    an 8-bit input, 0 and 1 for any other.

    Raises:
        ModelError: a key that is no integer input, or a range that the type or the table forbids.
    """
    integers = {
        spec.name: np.dtype(spec.dtype) for spec in inputs if np.dtype(spec.dtype).kind in "iu"
    }
    for key in given:
        if key not in integers:
            raise ModelError(
                f"model.ranges.{key} names no integer input of {model!r}. {nearest(key, integers)}"
            )
    ranges = {}
    for name, dtype in integers.items():
        if name in given:
            ranges[name] = _checked(model, name, given[name], dtype, limits.get(name))
        elif name in limits:
            ranges[name] = (0, min(limits[name] - 1, int(np.iinfo(dtype).max)))
        else:
            info = np.iinfo(dtype)
            ranges[name] = (int(info.min), int(info.max)) if dtype.itemsize == 1 else (0, 1)
    return ranges


def refuse_beyond(
    model: str, own: Mapping[str, tuple[int, int]], given: Mapping[str, Sequence[int]]
) -> None:
    """Refuse ranges of inputs that are no indices, such as lengths of texts, beyond what a network of the zoo takes.

    Args:
        model: its name.
        own: lowest and highest value of its integer inputs; those of indices begin at 0.
        given: ranges that the user gives, of any form.

    Raises:
        ModelError: a value is beyond.
    """
    for name, (least, most) in own.items():
        ends = given.get(name, ()) if least > 0 else ()
        if isinstance(ends, list | tuple) and any(
            type(end) is int and not least <= end <= most for end in ends
        ):
            raise ModelError(
                f"model.ranges.{name}={given[name]!r} leaves {least}..{most}, what {model!r} takes. Stay within it."
            )


def _checked(
    model: str, name: str, given: Sequence[int], dtype: np.dtype[np.integer[Any]], limit: int | None
) -> tuple[int, int]:
    key = f"model.ranges.{name}={given!r}"
    if (
        isinstance(given, (str, int))
        or len(given) != 2
        or not all(type(value) is int for value in given)
    ):
        raise ModelError(
            f"{key} is not a range. It takes the lowest and the highest value. "
            f"Set {setting(f'ranges.{name}', '[0, 1]')}."
        )
    low, high = given
    info = np.iinfo(dtype)
    if low > high or low < info.min or high > info.max:
        raise ModelError(
            f"{key} is no range of {dtype.name}. Give the lowest value first, within {info.min}..{info.max}."
        )
    if limit is not None and (low < 0 or high >= limit):
        raise ModelError(
            f"{key} leaves the table of {limit} rows that {model!r} indexes. Stay within 0..{limit - 1}."
        )
    return low, high
