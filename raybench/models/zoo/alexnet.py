"""AlexNet as BVLC's Caffe published it: 227x227, groups, LRN before the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder


def write(g: GraphBuilder) -> str:
    """Five convolutions, three fully connected layers, softmax."""
    x = g.maxpool(g.lrn(g.conv("data", 96, 11, stride=4)), 3, 2)
    x = g.maxpool(g.lrn(g.conv(x, 256, 5, pad=2, groups=2)), 3, 2)
    x = g.conv(x, 384, 3, pad=1)
    x = g.conv(x, 384, 3, pad=1, groups=2)
    x = g.maxpool(g.conv(x, 256, 3, pad=1, groups=2), 3, 2)
    x = g.op("Flatten", x, axis=1, channels=256 * 6 * 6)
    x = g.fc(g.fc(x, 4096, relu=True), 4096, relu=True)
    return g.op("Softmax", g.fc(x, 1000), axis=1)


RECIPE = Recipe(
    name="alexnet",
    version=1,
    inputs=(TensorSpec("data", "float32", (BATCH, 3, 227, 227)),),
    output=(BATCH, 1000),
    write=write,
)
