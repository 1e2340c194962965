"""Operators that multiply by weights or by each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody names it

from raybench.engines.torch.operators.windows import Window, symmetric, window

if TYPE_CHECKING:
    from raybench.engines.torch.operators.elementwise import Handler
    from raybench.engines.torch.step import Step

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _convolution(step: Step) -> Any:
    x, weight = step.input(0), step.input(1)
    moved = window(step, weight.shape[2:])
    x, padding = symmetric(step, x, moved, 0.0)
    return step.call(
        _of_rank(step, _CONVOLUTIONS, moved),
        x,
        weight,
        step.maybe(2),
        stride=moved.strides,
        padding=padding,
        dilation=moved.dilations,
        groups=int(step.attribute("group", 1)),
    )


def _transposed_convolution(step: Step) -> Any:
    weight = step.input(1)
    if step.attribute("output_shape", None) or step.attribute("auto_pad", "NOTSET") != "NOTSET":
        raise step.refusal("with output_shape or auto_pad")
    moved = window(step, weight.shape[2:])
    padding = tuple(min(pair) for pair in zip(moved.begins, moved.ends, strict=True))
    y = step.call(
        _of_rank(step, _TRANSPOSED, moved),
        step.input(0),
        weight,
        step.maybe(2),
        stride=moved.strides,
        padding=padding,
        output_padding=tuple(step.attribute("output_padding", [0] * len(padding))),
        groups=int(step.attribute("group", 1)),
        dilation=moved.dilations,
    )
    for axis, (begin, end, cut) in enumerate(
        zip(moved.begins, moved.ends, padding, strict=True), 2
    ):
        if begin > cut or end > cut:
            kept = y.shape[axis] - (begin - cut) - (end - cut)
            y = step.call(torch.narrow, y, axis, begin - cut, kept)
    return y


def _of_rank(step: Step, functions: dict[int, Any], moved: Window) -> Any:
    rank = len(moved.kernel)
    if rank not in functions:
        raise step.refusal(f"over {rank} dimensions")
    return functions[rank]


def _gemm(step: Step) -> Any:
    a, b, c = step.input(0), step.input(1), step.maybe(2)
    alpha, beta = float(step.attribute("alpha", 1.0)), float(step.attribute("beta", 1.0))
    if step.attribute("transA", 0):
        a = step.call(torch.t, a)
    plain = alpha == 1 and (c is None or (beta == 1 and c.rank == 1))
    if plain and step.attribute("transB", 0) and (c is None or c.shape == b.shape[:1]):
        return step.call(F.linear, a, b, c)
    if step.attribute("transB", 0):
        b = step.call(torch.t, b)
    if c is not None:
        return step.call(torch.addmm, c, a, b, beta=beta, alpha=alpha)
    product = step.call(torch.mm, a, b)
    return product if alpha == 1 else step.call(torch.mul, product, alpha)


def _matmul(step: Step) -> Any:
    return step.call(torch.matmul, step.input(0), step.input(1))


def _einsum(step: Step) -> Any:
    equation = "".join(step.attribute("equation", "").split())
    return step.call(torch.einsum, equation, *step.inputs)


TABLE: dict[str, Handler] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
}
