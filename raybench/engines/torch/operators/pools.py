"""Operators that pool, and those that change the size of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

from raybench.engines.torch.operators.windows import MovingWindow, symmetric, window

if TYPE_CHECKING:
    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.operators.elementwise import Handler

_LARGEST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _max_pool(op: OperatorCall) -> Any:
    if op.outputs > 1:
        raise op.refusal("with indices as an output")
    x, moved = op.input(), window(op, op.attribute("kernel_shape", []))
    ceil = bool(op.attribute("ceil_mode", 0))
    padding = moved.begins
    if not ceil and _reaches_alike(moved, x.shape[2:]):
        ceil = True  # the last window may reach over the end: no padded copy of the input
    else:
        x, padding = symmetric(op, x, moved, float("-inf"))
    return op.call(
        _function(op, _LARGEST, moved),
        x,
        moved.kernel,
        stride=moved.strides,
        padding=padding,
        dilation=moved.dilations,
        ceil_mode=ceil,
    )


def _mean_pool(op: OperatorCall) -> Any:
    x, moved = op.input(), window(op, op.attribute("kernel_shape", []))
    if any(dilation != 1 for dilation in moved.dilations):
        raise op.refusal("with dilations")
    ceil, counts = (
        bool(op.attribute("ceil_mode", 0)),
        bool(op.attribute("count_include_pad", 0)),
    )
    padding = moved.begins
    if moved.begins != moved.ends:
        if counts:
            x, padding = symmetric(op, x, moved, 0.0)
        elif not ceil and _reaches_alike(moved, x.shape[2:]):
            ceil = True
        else:
            raise op.refusal("whose padding differs at both ends and is not counted")
    return op.call(
        _function(op, _MEAN, moved),
        x,
        moved.kernel,
        stride=moved.strides,
        padding=padding,
        ceil_mode=ceil,
        count_include_pad=counts,
    )


def _reaches_alike(moved: MovingWindow, sizes: tuple[int, ...]) -> bool:
    """Return whether padding at the end does no more than let the last window reach over it."""
    if moved.begins == moved.ends:
        return False
    for size, span, stride, begin, end in zip(
        sizes, moved.spans(), moved.strides, moved.begins, moved.ends, strict=True
    ):
        if begin > span // 2:
            return False
        asked = (size + begin + end - span) // stride + 1
        over = -(-(size + 2 * begin - span) // stride) + 1
        if (over - 1) * stride >= size + begin:
            over -= 1  # a window that would begin behind the end is none
        if asked != over:
            return False
    return True


def _function(op: OperatorCall, functions: dict[int, Any], moved: MovingWindow) -> Any:
    rank = len(moved.kernel)
    if rank not in functions:
        raise op.refusal(f"over {rank} dimensions")
    return functions[rank]


def _global_mean(op: OperatorCall) -> Any:
    axes = tuple(range(2, op.input().rank))
    return op.call(torch.mean, op.input(), axes, keepdim=True)


def _global_max(op: OperatorCall) -> Any:
    axes = tuple(range(2, op.input().rank))
    return op.call(torch.amax, op.input(), axes, keepdim=True)


TABLE: dict[str, Handler] = {
    "MaxPool": _max_pool,
    "AveragePool": _mean_pool,
    "GlobalAveragePool": _global_mean,
    "GlobalMaxPool": _global_max,
}
