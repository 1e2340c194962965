"""Operators that normalise, and sums over dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.torch.operators.elementwise import Handler
    from raybench.engines.torch.step import Step


def _batch_norm(step: Step) -> Any:
    if step.outputs > 1 or step.attribute("training_mode", 0):
        raise step.refusal("in training")
    x, scale, bias, mean, variance = (step.input(index) for index in range(5))
    epsilon = step.attribute("epsilon", 1e-5)
    return step.call(F.batch_norm, x, mean, variance, scale, bias, eps=epsilon)


def _layer_norm(step: Step) -> Any:
    if step.outputs > 1:
        raise step.refusal("with mean and deviation as outputs")
    x, scale, bias = step.input(0), step.input(1), step.maybe(2)
    shape = x.shape[step.axis(-1) :]
    epsilon = step.attribute("epsilon", 1e-5)
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return step.call(F.layer_norm, x, shape, scale, bias, eps=epsilon)
    scaled = step.call(torch.mul, step.call(F.layer_norm, x, shape, eps=epsilon), scale)
    return scaled if bias is None else step.call(torch.add, scaled, bias)


def _rms_norm(step: Step) -> Any:
    x = step.input()
    epsilon = step.attribute("epsilon", 1e-5)
    return step.call(F.rms_norm, x, x.shape[step.axis(-1) :], step.input(1), eps=epsilon)


def _instance_norm(step: Step) -> Any:
    x, scale, bias = (step.input(index) for index in range(3))
    epsilon = step.attribute("epsilon", 1e-5)
    return step.call(F.instance_norm, x, weight=scale, bias=bias, eps=epsilon)


def _group_norm(step: Step) -> Any:
    x, scale, bias = (step.input(index) for index in range(3))
    groups, channels = int(step.attribute("num_groups", 1)), x.shape[1]
    if scale.shape[0] != channels:  # of each group, up to opset 20
        scale, bias = (
            step.call(torch.repeat_interleave, each, channels // groups) for each in (scale, bias)
        )
    return step.call(F.group_norm, x, groups, scale, bias, eps=step.attribute("epsilon", 1e-5))


def _lrn(step: Step) -> Any:
    size = int(step.attribute("size", 1))
    if size % 2 == 0:
        raise step.refusal("over an even number of channels")
    return step.call(
        F.local_response_norm,
        step.input(),
        size,
        alpha=step.attribute("alpha", 1e-4),
        beta=step.attribute("beta", 0.75),
        k=step.attribute("bias", 1.0),
    )


def _lp_norm(step: Step) -> Any:
    p = float(step.attribute("p", 2))
    return step.call(F.normalize, step.input(), p=p, dim=step.axis(-1))


def _softmax(function: Callable[..., Any]) -> Handler:
    def handle(step: Step) -> Any:
        x = step.input()
        if step.opset >= 13:
            return step.call(function, x, dim=step.axis(-1))
        axis = step.axis(1)
        flat = step.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return step.reshape(step.call(function, flat, dim=1), x.shape)

    return handle


def _reduce(function: Callable[..., Any]) -> Handler:
    def handle(step: Step) -> Any:
        x = step.input()
        axes = step.ints(1, "axes")
        if not axes:
            if step.attribute("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.rank))
        keep = bool(step.attribute("keepdims", 1))
        if not x.rank:
            return x
        return step.call(function, x, tuple(axes), keepdim=keep)

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
    def handle(step: Step) -> Any:
        if step.attribute("select_last_index", 0):
            raise step.refusal("that selects the last index")
        keep = bool(step.attribute("keepdims", 1))
        return step.call(function, step.input(), dim=step.axis(0), keepdim=keep)

    return handle


def _top_k(step: Step) -> Any:
    count = step.ints(1, "k") or [1]
    return step.call(
        torch.topk,
        step.input(),
        count[0],
        dim=step.axis(-1),
        largest=bool(step.attribute("largest", 1)),
        sorted=bool(step.attribute("sorted", 1)),
    )


def running_sum(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
    """Return the sums of all elements up to each along a dimension, itself left out if exclusive."""
    total = torch.cumsum(x.flip(axis) if reverse else x, axis)
    total = total.flip(axis) if reverse else total
    return total - x if exclusive else total


def _cumulative_sum(step: Step) -> Any:
    (axis,) = step.ints(1) or [0]
    exclusive, reverse = bool(step.attribute("exclusive", 0)), bool(step.attribute("reverse", 0))
    return step.cast(
        step.call(running_sum, step.input(), axis, exclusive, reverse), step.input().dtype
    )


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
