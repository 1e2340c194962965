"""Operators that move elements and compute shapes."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.operators.elementwise import Handler
    from raybench.engines.torch.writer import Value

_KEYS = (0, 2, 3, 1)
"""How attention orders its keys: [batch, place, head, size] becomes [batch, head, size, place]."""
_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _ints(op: OperatorCall, values: Sequence[int]) -> Any:
    return op.call(torch.tensor, list(values), dtype=torch.int64)


def _shape(op: OperatorCall) -> Any:
    start, end = op.attribute("start", 0), op.attribute("end", None)
    return _ints(op, op.input().shape[start:end])


def _size(op: OperatorCall) -> Any:
    return op.call(torch.tensor, math.prod(op.input().shape), dtype=torch.int64)


def _reshape(op: OperatorCall) -> Any:
    x = op.input()
    wanted = op.ints(1, "shape") or []
    if not op.attribute("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    known = math.prod(size for size in wanted if size != -1)
    if -1 in wanted and known:
        wanted = [math.prod(x.shape) // known if size == -1 else size for size in wanted]
    return op.reshape(x, wanted)


def _flatten(op: OperatorCall) -> Any:
    shape, axis = op.input().shape, op.axis(1)
    return op.reshape(op.input(), (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(op: OperatorCall) -> Any:
    x, axes = op.input(), op.ints(1, "axes")
    if axes is None:
        axes = [axis for axis, size in enumerate(x.shape) if size == 1]
    away = {axis % x.rank for axis in axes}
    return op.reshape(x, [size for axis, size in enumerate(x.shape) if axis not in away])


def _unsqueeze(op: OperatorCall) -> Any:
    x, axes = op.input(), op.ints(1, "axes") or []
    rank = x.rank + len(axes)
    new, sizes = {axis % rank for axis in axes}, iter(x.shape)
    return op.reshape(x, [1 if axis in new else next(sizes) for axis in range(rank)])


def _transpose(op: OperatorCall) -> Any:
    x = op.input()
    order = op.attribute("perm", None) or list(reversed(range(x.rank)))
    if list(order) == sorted(order):
        return x
    if tuple(order) == _KEYS:
        # in two steps: torch.compile (2.14) takes any permutation of keys for that of the last two
        # dimensions, and then fails to fuse attention
        heads = op.call(torch.permute, x, (0, 2, 1, 3))
        return op.call(torch.transpose, heads, -2, -1)
    return op.call(torch.permute, x, tuple(order))


def _concat(op: OperatorCall) -> Any:
    return op.call(torch.cat, list(op.inputs), dim=op.axis(0))


def _split(op: OperatorCall) -> Any:
    x, axis = op.input(), op.axis(0)
    sizes = op.ints(1, "split")
    if sizes is None:
        parts = int(op.attribute("num_outputs", op.outputs))
        each = -(-x.shape[axis] // parts)
        sizes = [each] * (parts - 1) + [x.shape[axis] - each * (parts - 1)]
    return op.call(torch.split, x, sizes, dim=axis)


def _slice(op: OperatorCall) -> Any:
    x = op.input()
    starts, ends = op.ints(1, "starts") or [], op.ints(2, "ends") or []
    axes = op.ints(3, "axes")
    steps = op.ints(4) or [1] * len(starts)
    where = [slice(None)] * x.rank
    for start, end, axis, stride in zip(
        starts, ends, range(len(starts)) if axes is None else axes, steps, strict=True
    ):
        axis, size = axis % x.rank, x.shape[axis % x.rank]
        if stride > 0:
            begin, stop, _ = slice(start, end, stride).indices(size)
            where[axis] = slice(begin, max(begin, stop), stride)
        else:
            index = list(range(*slice(start, end, stride).indices(size)))
            x = op.call(torch.index_select, x, axis, _ints(op, index))
    whole = all(
        each.indices(size) == (0, size, 1) for each, size in zip(where, x.shape, strict=True)
    )
    return x if whole else op.call(operator.getitem, x, tuple(where))


def gather(data: Any, indices: Any, axis: int) -> Any:
    """Return the slices of a dimension at indices of any shape, from 0 on."""
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return torch.index_select(data, axis, indices.reshape(-1)).reshape(shape)


def _gather(op: OperatorCall) -> Any:
    data, indices = op.input(0), op.input(1)
    axis = op.axis(0)
    if indices.constant:
        size = data.shape[axis]
        counted = np.asarray(indices.tensor)
        counted = np.where(counted < 0, counted + size, counted)
        if not counted.ndim:
            return op.call(torch.select, data, axis, int(counted))
        indices = op.call(torch.from_numpy, counted.astype(np.int64))
    if axis == 0 and data.rank == 2 and data.tensor.is_floating_point():
        return op.call(F.embedding, indices, data)
    if indices.rank == 1:
        return op.call(torch.index_select, data, axis, indices)
    return op.call(gather, data, indices, axis)


def _gather_elements(op: OperatorCall) -> Any:
    indices = op.cast(op.input(1), torch.int64)
    return op.call(gather_elements, op.input(0), indices, op.axis(0))


def gather_elements(data: Any, indices: Any, axis: int) -> Any:
    """Return an element of a dimension for each index; below 0 they count from the end."""
    indices = torch.where(indices < 0, indices + data.shape[axis], indices)
    return torch.gather(data, axis, indices)


def gather_points(data: Any, indices: Any) -> Any:
    """Return the slices of data at points: the last dimension of the indices holds their coordinates."""
    return data[tuple(indices.unbind(-1))]


def _gather_nd(op: OperatorCall) -> Any:
    if op.attribute("batch_dims", 0):
        raise op.refusal("with batch_dims")
    return op.call(gather_points, op.input(0), op.input(1))


def scatter_points(data: Any, indices: Any, updates: Any, add: bool) -> Any:
    """Return a copy of data with other slices, or with more in them, at points."""
    return data.index_put(tuple(indices.unbind(-1)), updates, accumulate=add)


def _adds(op: OperatorCall) -> bool:
    reduction = op.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise op.refusal(f"with reduction {reduction!r}")
    return bool(reduction == "add")


def _scatter_nd(op: OperatorCall) -> Any:
    data, indices, updates = (op.input(index) for index in range(3))
    return op.call(scatter_points, data, indices, updates, _adds(op))


def _scatter_elements(op: OperatorCall) -> Any:
    data, indices, updates = (op.input(index) for index in range(3))
    indices = op.cast(indices, torch.int64)
    return op.call(scatter_elements, data, indices, updates, op.axis(0), _adds(op))


def scatter_elements(data: Any, indices: Any, updates: Any, axis: int, add: bool) -> Any:
    """Return a copy of data with other elements, or with more in them, at indices of a dimension."""
    indices = torch.where(indices < 0, indices + data.shape[axis], indices)
    function = torch.scatter_add if add else torch.scatter
    return function(data, axis, indices, updates)


def _expand(op: OperatorCall) -> Any:
    x, wanted = op.input(), op.ints(1) or []
    shape = tuple(torch.broadcast_shapes(x.shape, tuple(wanted)))
    return x if shape == x.shape else op.call(torch.Tensor.expand, x, shape)


def _tile(op: OperatorCall) -> Any:
    return op.call(torch.tile, op.input(), tuple(op.ints(1) or [1]))


def _pad(op: OperatorCall) -> Any:
    x, given = op.input(), op.ints(1, "pads") or []
    axes = op.ints(3) or list(range(x.rank))
    pairs = [(0, 0)] * x.rank
    for place, axis in enumerate(axes):
        pairs[axis % x.rank] = (given[place], given[place + len(axes)])
    while pairs and pairs[0] == (0, 0):
        pairs = pairs[1:]  # PyTorch counts from the last dimension
    if not pairs:
        return x
    pads = [each for pair in reversed(pairs) for each in pair]
    mode = op.attribute("mode", "constant")
    if mode == "constant":
        fill = op.constant(2)
        value = op.attribute("value", 0.0) if fill is None or not fill.size else fill.item()
        return op.call(F.pad, x, pads, value=value)
    if mode not in _PAD_MODES or len(pairs) > x.rank - 1:
        raise op.refusal(f"in mode {mode!r} over all dimensions")
    return op.call(F.pad, x, pads, mode=_PAD_MODES[mode])


def _constant_of_shape(op: OperatorCall) -> Any:
    value = np.asarray(op.attribute("value", np.zeros(1, np.float32))).reshape(-1)
    dtype = torch.from_numpy(value.copy()).dtype
    return op.call(torch.full, tuple(op.ints(0) or ()), value[0].item(), dtype=dtype)


def _range(op: OperatorCall) -> Any:
    numbers = [op.constant(index) for index in range(3)]
    start, limit, delta = (0 if number is None else number.item() for number in numbers)
    return op.call(torch.arange, start, limit, delta, dtype=op.input().dtype)


def _triangle(op: OperatorCall) -> Any:
    (diagonal,) = op.ints(1) or [0]
    function = torch.triu if op.attribute("upper", 1) else torch.tril
    return op.call(function, op.input(), diagonal=diagonal)


def _depth_to_space(op: OperatorCall) -> Any:
    x, block = op.input(), int(op.attribute("blocksize", 1))
    if op.attribute("mode", "DCR") == "CRD":
        return op.call(F.pixel_shuffle, x, block)
    n, c, h, w = x.shape
    split = op.reshape(x, (n, block, block, c // block**2, h, w))
    moved = op.call(torch.permute, split, (0, 3, 4, 1, 5, 2))
    return op.reshape(moved, (n, c // block**2, h * block, w * block))


def _space_to_depth(op: OperatorCall) -> Any:
    x, block = op.input(), int(op.attribute("blocksize", 1))
    if op.attribute("mode", "DCR") != "DCR":
        raise op.refusal("in another mode than DCR")
    n, c, h, w = x.shape
    split = op.reshape(x, (n, c, h // block, block, w // block, block))
    moved = op.call(torch.permute, split, (0, 3, 5, 1, 2, 4))
    return op.reshape(moved, (n, c * block**2, h // block, w // block))


def one_hot(indices: Any, values: Any, depth: int, axis: int) -> Any:
    """Return values[1] at each index along a new dimension, and values[0] elsewhere."""
    rank = indices.dim() + 1
    counted = torch.where(indices < 0, indices + depth, indices).unsqueeze(axis % rank)
    steps = torch.arange(depth, device=indices.device)
    shape = [depth if place == axis % rank else 1 for place in range(rank)]
    return torch.where(counted == steps.reshape(shape), values[1], values[0])


def _one_hot(op: OperatorCall) -> Any:
    (depth,) = op.ints(1) or [1]
    axis = int(op.attribute("axis", -1))
    return op.call(one_hot, op.input(0), op.input(2), depth, axis)


def _non_zero(op: OperatorCall) -> Any:
    where = np.stack(np.nonzero(np.asarray(op.constant(0))))
    return op.call(torch.from_numpy, where.astype(np.int64))


def _constant(function: Callable[..., Any]) -> Handler:
    def handle(op: OperatorCall) -> Any:
        value: Value = op.input()
        if not value.constant:
            raise op.refusal("of data that varies")
        return function(op)

    return handle


TABLE: dict[str, Handler] = {
    "Shape": _shape,
    "Size": _size,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Trilu": _triangle,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "OneHot": _one_hot,
    "NonZero": _constant(_non_zero),
}
