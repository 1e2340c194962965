"""Whisper base, the encoder: 30 s of speech as 3,000 frames of 80 mel bands become 1,500 tokens.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision": two convolutions over
time, sinusoidal positions, six pre-LN blocks of width 512. 20,590,592 of the model's 72.6 million
parameters, positions included. The decoder, which writes the text, is not part of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.models import transformer
from raybench.models.builder import BIAS_STD
from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_SIZES = transformer.Sizes(width=512, heads=8, feed_forward=2048, key_bias=False)
_BLOCKS = 6
_BANDS, _FRAMES = 80, 3000
_EPSILON = 1e-5


def write(g: GraphBuilder) -> str:
    """Convolutions, positions, six pre-LN blocks, normalisation."""
    x = transformer.gelu(g, _over_time(g, "mel", 1))
    x = transformer.gelu(g, _over_time(g, x, 2))
    x = g.op("Transpose", x, perm=[0, 2, 1])
    x = g.op("Add", x, g.table("positions", (1, _FRAMES // 2, _SIZES.width), std=0.5))
    for index in range(_BLOCKS):
        x = transformer.block(g, x, f"block_{index}", _EPSILON, norm_first=True, sizes=_SIZES)
    return g.layer_norm(x, _EPSILON)


def _over_time(g: GraphBuilder, x: str, stride: int) -> str:
    """Append a convolution of three frames."""
    label, into, width = f"over_time_{stride}", g.channels(x), _SIZES.width
    w = g.weight(f"{label}.w", (width, into, 3), math.sqrt(3.0 / (3 * into)))
    b = g.weight(f"{label}.b", (width,), BIAS_STD * math.sqrt(3.0))
    attributes = {"kernel_shape": [3], "strides": [stride], "pads": [1, 1]}
    return g.op("Conv", x, w, b, name=label, channels=width, **attributes)


RECIPE = Recipe(
    name="whisper_base",
    version=1,
    inputs=(TensorSpec("mel", "float32", (BATCH, _BANDS, _FRAMES)),),
    output=(BATCH, _FRAMES // 2, _SIZES.width),
    write=write,
)
