"""GoogLeNet as BVLC's Caffe published it: 224x224, without the auxiliary heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

# c1, r3, c3, r5, c5, cp of each inception block; a stage ends with a pool
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def write(g: GraphBuilder) -> str:
    """Stem, nine inception blocks in three stages, classifier."""
    x = g.lrn(_pool(g, g.conv("data", 64, 7, stride=2, pad=3)))
    x = g.lrn(g.conv(g.conv(x, 64, 1), 192, 3, pad=1))
    for blocks in _STAGES:
        x = _pool(g, x)
        for widths in blocks:
            x = _inception(g, x, widths)
    return g.classifier(g.op("GlobalAveragePool", x))


def _pool(g: GraphBuilder, x: str) -> str:
    # Caffe rounds sizes up; explicit pads at the end give its sizes without ceil_mode
    return g.maxpool(x, 3, 2, pads=(0, 0, 1, 1))


def _inception(g: GraphBuilder, x: str, widths: tuple[int, ...]) -> str:
    c1, r3, c3, r5, c5, cp = widths
    branches = (
        g.conv(x, c1, 1),
        g.conv(g.conv(x, r3, 1), c3, 3, pad=1),
        g.conv(g.conv(x, r5, 1), c5, 5, pad=2),
        g.conv(g.maxpool(x, 3, 1, pads=(1, 1, 1, 1)), cp, 1, gain=0.7),
    )
    return g.op("Concat", *branches, axis=1, channels=c1 + c3 + c5 + cp)


RECIPE = Recipe(
    name="googlenet",
    version=1,
    inputs=(TensorSpec("data", "float32", (BATCH, 3, 224, 224)),),
    output=(BATCH, 1000),
    write=write,
)
