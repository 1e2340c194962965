"""Decoders of language models in three sizes, each as a prefill and a step; see `raybench.models.decoder`.

The sizes are those of SmolLM-135M (134,515,008 parameters), Llama 3.2 1B (1,235,814,400) and Llama 3.1
8B (8,030,261,248). Weights are random, so what they generate means nothing.
"""

from __future__ import annotations

from raybench.models.decoder import DecoderSizes
from raybench.models.decoder_recipe import DecoderRecipe

SIZES = {
    "decoder_125m": DecoderSizes(
        width=576, blocks=30, heads=9, kv_heads=3, head=64, feed_forward=1536,
        vocabulary=49_152, tied=True, theta=1e4,
    ),
    "decoder_1b": DecoderSizes(
        width=2048, blocks=16, heads=32, kv_heads=8, head=64, feed_forward=8192,
        vocabulary=128_256, tied=True, theta=5e5,
    ),
    "decoder_8b": DecoderSizes(
        width=4096, blocks=32, heads=32, kv_heads=8, head=128, feed_forward=14_336,
        vocabulary=128_256, tied=False, theta=5e5,
    ),
}  # fmt: skip

RECIPES = tuple(
    DecoderRecipe.usual(name, 1, sizes, part)
    for name, sizes in SIZES.items()
    for part in ("prefill", "step")
)
