"""Operators that normalise, and sums over dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.operators.elementwise import Handler


def _batch_norm(op: OperatorCall) -> Any:
    if op.outputs > 1 or op.attribute("training_mode", 0):
        raise op.refusal("in training")
    x, scale, bias, mean, variance = (op.input(index) for index in range(5))
    epsilon = op.attribute("epsilon", 1e-5)
    return op.call(F.batch_norm, x, mean, variance, scale, bias, eps=epsilon)


def _layer_norm(op: OperatorCall) -> Any:
    if op.outputs > 1:
        raise op.refusal("with mean and deviation as outputs")
    x, scale, bias = op.input(0), op.input(1), op.maybe(2)
    shape = x.shape[op.axis(-1) :]
    epsilon = op.attribute("epsilon", 1e-5)
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return op.call(F.layer_norm, x, shape, scale, bias, eps=epsilon)
    scaled = op.call(torch.mul, op.call(F.layer_norm, x, shape, eps=epsilon), scale)
    return scaled if bias is None else op.call(torch.add, scaled, bias)


def _rms_norm(op: OperatorCall) -> Any:
    x = op.input()
    epsilon = op.attribute("epsilon", 1e-5)
    return op.call(F.rms_norm, x, x.shape[op.axis(-1) :], op.input(1), eps=epsilon)


def _instance_norm(op: OperatorCall) -> Any:
    x, scale, bias = (op.input(index) for index in range(3))
    epsilon = op.attribute("epsilon", 1e-5)
    return op.call(F.instance_norm, x, weight=scale, bias=bias, eps=epsilon)


def _group_norm(op: OperatorCall) -> Any:
    x, scale, bias = (op.input(index) for index in range(3))
    groups, channels = int(op.attribute("num_groups", 1)), x.shape[1]
    if scale.shape[0] != channels:  # of each group, up to opset 20
        scale, bias = (
            op.call(torch.repeat_interleave, each, channels // groups) for each in (scale, bias)
        )
    return op.call(F.group_norm, x, groups, scale, bias, eps=op.attribute("epsilon", 1e-5))


def _lrn(op: OperatorCall) -> Any:
    size = int(op.attribute("size", 1))
    if size % 2 == 0:
        raise op.refusal("over an even number of channels")
    return op.call(
        F.local_response_norm,
        op.input(),
        size,
        alpha=op.attribute("alpha", 1e-4),
        beta=op.attribute("beta", 0.75),
        k=op.attribute("bias", 1.0),
    )


def _lp_norm(op: OperatorCall) -> Any:
    p = float(op.attribute("p", 2))
    return op.call(F.normalize, op.input(), p=p, dim=op.axis(-1))


def _softmax(function: Callable[..., Any]) -> Handler:
    def handle(op: OperatorCall) -> Any:
        x = op.input()
        if op.opset >= 13:
            return op.call(function, x, dim=op.axis(-1))
        axis = op.axis(1)
        flat = op.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return op.reshape(op.call(function, flat, dim=1), x.shape)

    return handle


def _reduce(function: Callable[..., Any]) -> Handler:
    def handle(op: OperatorCall) -> Any:
        x = op.input()
        axes = op.ints(1, "axes")
        if not axes:
            if op.attribute("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.rank))
        keep = bool(op.attribute("keepdims", 1))
        if not x.rank:
            return x
        return op.call(function, x, tuple(axes), keepdim=keep)

    return handle


def square_sum(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Return the sum of squares over some dimensions."""
    return torch.sum(x * x, axes, keepdim=keepdim)


def absolute_sum(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Return the sum of absolute values over some dimensions."""
    return torch.sum(torch.abs(x), axes, keepdim=keepdim)


def length(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Return the Euclidean length over some dimensions."""
    return torch.linalg.vector_norm(x, 2, axes, keepdim=keepdim)


def product(x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Return the product over some dimensions."""
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keepdim)
    return x


def _arg(function: Callable[..., Any]) -> Handler:
    def handle(op: OperatorCall) -> Any:
        if op.attribute("select_last_index", 0):
            raise op.refusal("that selects the last index")
        keep = bool(op.attribute("keepdims", 1))
        return op.call(function, op.input(), dim=op.axis(0), keepdim=keep)

    return handle


def _top_k(op: OperatorCall) -> Any:
    count = op.ints(1, "k") or [1]
    return op.call(
        torch.topk,
        op.input(),
        count[0],
        dim=op.axis(-1),
        largest=bool(op.attribute("largest", 1)),
        sorted=bool(op.attribute("sorted", 1)),
    )


def running_sum(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """Return the sums of all elements up to each along a dimension, itself left out if exclusive."""
    total = torch.cumsum(x.flip(axis) if reverse else x, axis)
    total = total.flip(axis) if reverse else total
    return total - x if exclusive else total


def _cumulative_sum(op: OperatorCall) -> Any:
    (axis,) = op.ints(1) or [0]
    exclusive, reverse = bool(op.attribute("exclusive", 0)), bool(op.attribute("reverse", 0))
    return op.cast(op.call(running_sum, op.input(), axis, exclusive, reverse), op.input().dtype)


TABLE: dict[str, Handler] = {
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LRN": _lrn,
    "LpNormalization": _lp_norm,
    "Softmax": _softmax(F.softmax),
    "LogSoftmax": _softmax(F.log_softmax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(product),
    "ReduceL1": _reduce(absolute_sum),
    "ReduceL2": _reduce(length),
    "ReduceSumSquare": _reduce(square_sum),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "TopK": _top_k,
    "CumSum": _cumulative_sum,
}
