"""ResNet-50 v1.5 (a stage strides on its 3x3), batch normalisation folded into the convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


def write(g: GraphBuilder) -> str:
    """Stem, sixteen bottleneck blocks in four stages, classifier."""
    x = g.maxpool(g.conv("data", 64, 7, stride=2, pad=3), 3, 2, pads=(1, 1, 1, 1))
    for width, blocks, stride in _STAGES:
        for block in range(blocks):
            x = _bottleneck(g, x, width, stride if block == 0 else 1, project=block == 0)
    return g.classifier(g.op("GlobalAveragePool", x))


def _bottleneck(g: GraphBuilder, x: str, width: int, stride: int, project: bool) -> str:
    y = g.conv(g.conv(x, width, 1), width, 3, stride=stride, pad=1)
    y = g.conv(y, 4 * width, 1, gain=0.25, relu=False)
    shortcut = g.conv(x, 4 * width, 1, stride=stride, gain=0.7, relu=False) if project else x
    return g.op("Relu", g.op("Add", y, shortcut))


RECIPE = Recipe(
    name="resnet50",
    version=1,
    inputs=(TensorSpec("data", "float32", (BATCH, 3, 224, 224)),),
    output=(BATCH, 1000),
    write=write,
)
