"""YOLOv8s: a detector, 640 x 640, its 8,400 boxes and 80 classes before non-maximum suppression.

The shape that Ultralytics published in 2023: 11,156,544 parameters with batch normalisation folded into the
convolutions, and 28.6 GFLOP an image, 14.3 GMAC. Outputs are boxes (centre, size, in pixels) and the
probability of each class, as its exports have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.models.builder import GraphBuilder

_SIDE = 640
_WIDTHS = (32, 64, 128, 256, 512)
"""Channels of the stem and of strides 4, 8, 16 and 32."""
_STRIDES = (8, 16, 32)
_CLASSES, _BINS = 80, 16
_GAIN = 1.13
"""Found by trying: standard deviations stay between 0.5 and 5 through all layers."""
_BOXES = sum((_SIDE // stride) ** 2 for stride in _STRIDES)


def write(g: GraphBuilder) -> str:
    """Backbone, feature pyramid down and up again, a head at each of three strides."""
    stem, two, three, four, five = _WIDTHS
    x = _silu_conv(g, _silu_conv(g, "data", stem, 3, 2), two, 3, 2)
    x = _silu_conv(g, _stage(g, x, two, 1, shortcut=True), three, 3, 2)
    fine = _stage(g, x, three, 2, shortcut=True)
    middle = _stage(g, _silu_conv(g, fine, four, 3, 2), four, 2, shortcut=True)
    coarse = _stage(g, _silu_conv(g, middle, five, 3, 2), five, 1, shortcut=True)
    coarse = _pooled(g, coarse, five)
    middle = _stage(g, _joined(g, _doubled(g, coarse), middle), four, 1)
    fine = _stage(g, _joined(g, _doubled(g, middle), fine), three, 1)
    middle = _stage(g, _joined(g, _silu_conv(g, fine, three, 3, 2), middle), four, 1)
    coarse = _stage(g, _joined(g, _silu_conv(g, middle, four, 3, 2), coarse), five, 1)
    return _heads(g, (fine, middle, coarse))


def _silu_conv(g: GraphBuilder, x: str, channels: int, kernel: int, stride: int = 1) -> str:
    y = g.conv(x, channels, kernel, stride, kernel // 2, gain=_GAIN, relu=False)
    return g.op("Mul", y, g.op("Sigmoid", y))


def _joined(g: GraphBuilder, *parts: str) -> str:
    return g.op("Concat", *parts, axis=1, channels=sum(g.channels(part) for part in parts))


def _stage(g: GraphBuilder, x: str, channels: int, blocks: int, shortcut: bool = False) -> str:
    """Append a stage whose blocks each work on half of the channels, and all of whose parts are joined."""
    half = channels // 2
    x = _silu_conv(g, x, channels, 1)
    axis = g.constant("axis.1", (1,))
    ends = [g.constant(f"channel.{at}", (at,)) for at in (0, half, channels)]
    parts = [g.op("Slice", x, ends[k], ends[k + 1], axis, channels=half) for k in (0, 1)]
    for _ in range(blocks):
        y = _silu_conv(g, _silu_conv(g, parts[-1], half, 3), half, 3)
        parts.append(g.op("Add", parts[-1], y) if shortcut else y)
    return _silu_conv(g, _joined(g, *parts), channels, 1)


def _pooled(g: GraphBuilder, x: str, channels: int) -> str:
    """Append pooling over three sizes of windows, which are joined (SPPF)."""
    parts = [_silu_conv(g, x, channels // 2, 1)]
    for _ in range(3):
        parts.append(g.maxpool(parts[-1], 5, 1, (2, 2, 2, 2)))
    return _silu_conv(g, _joined(g, *parts), channels, 1)


def _doubled(g: GraphBuilder, x: str) -> str:
    scales = g.constant("twice", (1, 1, 2, 2), "float32")
    return g.op(
        "Resize", x, "", scales, mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip


def _heads(g: GraphBuilder, levels: Sequence[str]) -> str:
    """Append box and class branches at each level, and make boxes of the distributions of distances."""
    of_box, of_class = max(16, _WIDTHS[2] // 4, 4 * _BINS), max(_WIDTHS[2], _CLASSES)
    boxes: list[str] = []
    classes: list[str] = []
    for level in levels:
        for found, inner, outer in ((boxes, of_box, 4 * _BINS), (classes, of_class, _CLASSES)):
            y = _silu_conv(g, _silu_conv(g, level, inner, 3), inner, 3)
            y = g.conv(y, outer, 1, gain=0.5, relu=False)
            found.append(g.op("Reshape", y, g.constant(f"flat.{outer}", (0, outer, -1))))
    distances = g.op(
        "Reshape", g.op("Concat", *boxes, axis=2), g.constant("sides", (0, 4, _BINS, -1))
    )
    shares = g.op(
        "Softmax", g.op("Transpose", distances, perm=[0, 2, 1, 3]), axis=1, channels=_BINS
    )
    bins = g.constant("bins", np.arange(_BINS).reshape(1, _BINS, 1, 1), "float32")
    mean = g.op(
        "Reshape", g.op("Conv", shares, bins, kernel_shape=[1, 1]), g.constant("four", (0, 4, -1))
    )
    probabilities = g.op("Sigmoid", g.op("Concat", *classes, axis=2))
    return g.op("Concat", _corners(g, mean), probabilities, axis=1)


def _corners(g: GraphBuilder, distances: str) -> str:
    """Append centre and size of the boxes from the distances of their sides to the anchors."""
    axis = g.constant("axis.1", (1,))
    ends = [g.constant(f"channel.{at}", (at,)) for at in (0, 2, 4)]
    near, far = (g.op("Slice", distances, ends[k], ends[k + 1], axis) for k in (0, 1))
    anchors, strides = _anchors()
    centre = g.op("Mul", g.op("Sub", far, near), g.constant("half", 0.5, "float32"))
    centre = g.op("Add", centre, g.constant("anchors", anchors, "float32"))
    box = g.op("Concat", centre, g.op("Add", far, near), axis=1)
    return g.op("Mul", box, g.constant("strides", strides, "float32"))


def _anchors() -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of the cells in units of their strides, (1, 2, n), and the strides, (1, 1, n)."""
    centres, strides = [], []
    for stride in _STRIDES:
        cells = np.arange(_SIDE // stride) + 0.5
        y, x = np.meshgrid(cells, cells, indexing="ij")
        centres.append(np.stack([x.ravel(), y.ravel()]))
        strides.append(np.full(x.size, float(stride)))
    return np.concatenate(centres, axis=1)[None], np.concatenate(strides)[None, None]


RECIPE = Recipe(
    name="yolov8s",
    version=1,
    inputs=(TensorSpec("data", "float32", (BATCH, 3, _SIDE, _SIDE)),),
    output=(BATCH, 4 + _CLASSES, _BOXES),
    write=write,
)
