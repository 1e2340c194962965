"""Operators that multiply by weights or by each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

from raybench.engines.torch.operators.windows import MovingWindow, symmetric, window

if TYPE_CHECKING:
    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.operators.elementwise import Handler

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _convolution(op: OperatorCall) -> Any:
    x, weight = op.input(0), op.input(1)
    moved = window(op, weight.shape[2:])
    x, padding = symmetric(op, x, moved, 0.0)
    return op.call(
        _of_rank(op, _CONVOLUTIONS, moved),
        x,
        weight,
        op.maybe(2),
        stride=moved.strides,
        padding=padding,
        dilation=moved.dilations,
        groups=int(op.attribute("group", 1)),
    )


def _transposed_convolution(op: OperatorCall) -> Any:
    weight = op.input(1)
    if op.attribute("output_shape", None) or op.attribute("auto_pad", "NOTSET") != "NOTSET":
        raise op.refusal("with output_shape or auto_pad")
    moved = window(op, weight.shape[2:])
    padding = tuple(min(pair) for pair in zip(moved.begins, moved.ends, strict=True))
    y = op.call(
        _of_rank(op, _TRANSPOSED, moved),
        op.input(0),
        weight,
        op.maybe(2),
        stride=moved.strides,
        padding=padding,
        output_padding=tuple(op.attribute("output_padding", [0] * len(padding))),
        groups=int(op.attribute("group", 1)),
        dilation=moved.dilations,
    )
    for axis, (begin, end, cut) in enumerate(
        zip(moved.begins, moved.ends, padding, strict=True), 2
    ):
        if begin > cut or end > cut:
            kept = y.shape[axis] - (begin - cut) - (end - cut)
            y = op.call(torch.narrow, y, axis, begin - cut, kept)
    return y


def _of_rank(op: OperatorCall, functions: dict[int, Any], moved: MovingWindow) -> Any:
    rank = len(moved.kernel)
    if rank not in functions:
        raise op.refusal(f"over {rank} dimensions")
    return functions[rank]


def _gemm(op: OperatorCall) -> Any:
    a, b, c = op.input(0), op.input(1), op.maybe(2)
    alpha, beta = float(op.attribute("alpha", 1.0)), float(op.attribute("beta", 1.0))
    if op.attribute("transA", 0):
        a = op.call(torch.t, a)
    plain = alpha == 1 and (c is None or (beta == 1 and c.rank == 1))
    if plain and op.attribute("transB", 0) and (c is None or c.shape == b.shape[:1]):
        return op.call(F.linear, a, b, c)
    if op.attribute("transB", 0):
        b = op.call(torch.t, b)
    if c is not None:
        return op.call(torch.addmm, c, a, b, beta=beta, alpha=alpha)
    product = op.call(torch.mm, a, b)
    return product if alpha == 1 else op.call(torch.mul, product, alpha)


def _matmul(op: OperatorCall) -> Any:
    return op.call(torch.matmul, op.input(0), op.input(1))


def _einsum(op: OperatorCall) -> Any:
    equation = "".join(op.attribute("equation", "").split())
    return op.call(torch.einsum, equation, *op.inputs)


TABLE: dict[str, Handler] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
}
