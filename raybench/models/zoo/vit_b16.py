"""ViT-B/16: 224x224 in patches of 16, class token, pre-LN blocks, logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models import transformer
from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_PATCH = 16
_PATCHES = (224 // _PATCH) ** 2
_EPSILON = 1e-6


def write(g: GraphBuilder) -> str:
    """Patches, class token, positions, twelve pre-LN blocks, head over the class token."""
    width = transformer.WIDTH
    x = g.conv("data", width, _PATCH, stride=_PATCH, gain=0.7, relu=False)
    x = g.op("Reshape", x, g.constant("patches", (0, width, _PATCHES)))
    x = g.op("Transpose", x, perm=[0, 2, 1], channels=width)
    x = g.op("Concat", _class_tokens(g), x, axis=1, channels=width)
    x = g.op("Add", x, g.table("positions", (1, _PATCHES + 1, width)))
    for index in range(transformer.BLOCKS):
        x = transformer.block(g, x, f"block_{index}", _EPSILON, norm_first=True)
    first = g.op("Gather", g.layer_norm(x, _EPSILON), g.constant("first", 0), axis=1)
    return g.linear(first, 1000, "head")


def _class_tokens(g: GraphBuilder) -> str:
    # one token, expanded to the batch that the input has
    bounds = (
        g.constant("batch.start", (0,)),
        g.constant("batch.end", (1,)),
        g.constant("axis.0", (0,)),
    )
    batch = g.op("Slice", g.op("Shape", "data"), *bounds)
    shape = g.op("Concat", batch, g.constant("token.shape", (1, transformer.WIDTH)), axis=0)
    return g.op("Expand", g.table("class_token", (1, 1, transformer.WIDTH), std=0.5), shape)


RECIPE = Recipe(
    name="vit_b16",
    version=1,
    inputs=(TensorSpec("data", "float32", (BATCH, 3, 224, 224)),),
    output=(BATCH, 1000),
    write=write,
)
