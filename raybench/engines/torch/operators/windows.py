"""Windows that convolutions and pools move over an input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F  # noqa: N812 - as everybody names it

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.engines.torch.operator_call import OperatorCall
    from raybench.engines.torch.writer import Value


@dataclass(frozen=True)
class MovingWindow:
    """Sizes by spatial dimension.

    Attributes:
        kernel: size of the window.
        strides, dilations: as ONNX and PyTorch mean them.
        begins, ends: padding before the first and behind the last element.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def reaches_beyond(self) -> bool:
        """Whether the padding is more than half a window, which PyTorch's pools do not take."""
        return any(begin > span // 2 for begin, span in zip(self.begins, self.spans(), strict=True))

    def spans(self) -> tuple[int, ...]:
        """Return how many elements the window reaches over."""
        return tuple(
            dilation * (size - 1) + 1
            for size, dilation in zip(self.kernel, self.dilations, strict=True)
        )


def window(op: OperatorCall, kernel: Sequence[int]) -> MovingWindow:
    """Return the window of an operation; padding that follows from the input's size is worked out."""
    rank = len(kernel)
    pads = op.attribute("pads", None) or [0] * (2 * rank)
    found = MovingWindow(
        tuple(kernel),
        tuple(op.attribute("strides", None) or [1] * rank),
        tuple(op.attribute("dilations", None) or [1] * rank),
        tuple(pads[:rank]),
        tuple(pads[rank:]),
    )
    auto = op.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        return replace(found, begins=(0,) * rank, ends=(0,) * rank)
    return found if auto == "NOTSET" else _same(found, op.input().shape[2:], auto == "SAME_LOWER")


def _same(found: MovingWindow, sizes: Sequence[int], lower: bool) -> MovingWindow:
    """Return the window with the padding that gives one output for each stride."""
    small, large = [], []
    for size, span, stride in zip(sizes, found.spans(), found.strides, strict=True):
        whole = max((-(-size // stride) - 1) * stride + span - size, 0)
        small.append(whole // 2)
        large.append(whole - whole // 2)
    begins, ends = (large, small) if lower else (small, large)
    return replace(found, begins=tuple(begins), ends=tuple(ends))


def symmetric(
    op: OperatorCall, x: Value, moved: MovingWindow, fill: float
) -> tuple[Value, tuple[int, ...]]:
    """Return the input and a padding that is alike on both sides, padding it first where it is not."""
    if moved.begins == moved.ends and not (fill and moved.reaches_beyond):
        return x, moved.begins
    pads = [
        each
        for pair in zip(reversed(moved.begins), reversed(moved.ends), strict=True)
        for each in pair
    ]
    padded: Any = op.call(F.pad, x, pads, value=fill)
    return padded, (0,) * len(moved.kernel)
