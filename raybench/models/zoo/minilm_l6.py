"""MiniLM-L6: sentence embeddings of 128 tokens, mean of all tokens at length 1.

Shape of all-MiniLM-L6-v2 (Wang et al. 2020, "MiniLM"; Reimers and Gurevych 2019 for the mean over tokens):
six post-LN blocks of width 384. Its 22,713,216 parameters include a pooler, which embeddings do not use:
22,565,376 are here. Every item has all 128 tokens, as a batch that was padded to its longest has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models import transformer
from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_SIZES = transformer.Sizes(width=384, heads=12, feed_forward=1536)
_BLOCKS = 6
_TOKENS = 128
_WORDS, _POSITIONS, _TYPES = 30522, 512, 2
_EPSILON = 1e-12


def write(g: GraphBuilder) -> str:
    """Embeddings, six post-LN blocks, mean over the tokens, normalised."""
    x = transformer.embeddings(g, _SIZES.width, _TOKENS, (_WORDS, _TYPES, _POSITIONS), _EPSILON)
    for index in range(_BLOCKS):
        x = transformer.block(g, x, f"block_{index}", _EPSILON, norm_first=False, sizes=_SIZES)
    mean = g.op("ReduceMean", x, axes=[1], keepdims=0)
    length = g.op("ReduceL2", mean, axes=[1], keepdims=1)
    return g.op("Div", mean, length)


RECIPE = Recipe(
    name="minilm_l6",
    version=1,
    inputs=(
        TensorSpec("input_ids", "int64", (BATCH, _TOKENS)),
        TensorSpec("token_type_ids", "int64", (BATCH, _TOKENS)),
    ),
    output=(BATCH, _SIZES.width),
    write=write,
    ranges={"input_ids": (0, _WORDS - 1), "token_type_ids": (0, _TYPES - 1)},
)
