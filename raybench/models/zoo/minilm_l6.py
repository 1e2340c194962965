"""MiniLM-L6: sentence embeddings of 128 tokens, mean of all tokens at length 1.

Shape of all-MiniLM-L6-v2 (Wang et al. 2020, "MiniLM"; Reimers and Gurevych 2019 for the mean over tokens):
six post-LN blocks of width 384. Its 22,713,216 parameters include a pooler, which embeddings do not use:
22,565,376 are here. Every item of `minilm_l6` has all 128 tokens; those of `minilm_l6_ragged` have 1 to 128
of them (`model.ranges.lengths`), and the rest is padding, which is computed and left out of the result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from raybench.models import transformer
from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_SIZES = transformer.Sizes(width=384, heads=12, feed_forward=1536)
_BLOCKS = 6
TOKENS = 128
"""Of an item, with its padding."""
LENGTHS = "lengths"
"""Input of the ragged network: tokens of each item, uniform in its range."""
_WORDS, _POSITIONS, _TYPES = 30522, 512, 2
_EPSILON = 1e-12
_MASK = (("nothing", 0.0), ("far_below", -10_000.0))
"""What is added to the scores of tokens and of padding; fp16 holds both."""


def write(g: GraphBuilder) -> str:
    """Embeddings, six post-LN blocks, mean over the tokens, normalised."""
    return _normalised_mean(g, _blocks(g, _SIZES))


def write_ragged(g: GraphBuilder) -> str:
    """The same for texts of different lengths, padded to 128 tokens that attention and mean leave out."""
    positions = g.constant("tokens", list(range(TOKENS)))
    is_token = g.op("Less", positions, LENGTHS)
    nothing, far_below = (g.constant(f"mask.{name}", value, "float32") for name, value in _MASK)
    one = g.constant("mask.one", 1.0, "float32")
    mask = g.op("Where", is_token, nothing, far_below)
    of_scores = g.op("Reshape", mask, g.constant("mask.scores", (-1, 1, 1, TOKENS)))
    x = _blocks(g, replace(_SIZES, mask=of_scores))
    kept = g.op("Where", is_token, one, nothing)
    of_tokens = g.op("Reshape", kept, g.constant("mask.tokens", (-1, TOKENS, 1)))
    return _normalised_mean(g, g.op("Mul", x, of_tokens, channels=_SIZES.width))


def _blocks(g: GraphBuilder, sizes: transformer.Sizes) -> str:
    x = transformer.embeddings(g, sizes.width, TOKENS, (_WORDS, _TYPES, _POSITIONS), _EPSILON)
    for index in range(_BLOCKS):
        x = transformer.block(g, x, f"block_{index}", _EPSILON, norm_first=False, sizes=sizes)
    return x


def _normalised_mean(g: GraphBuilder, x: str) -> str:
    """Append the mean over the tokens, which is normalised, so that their number does not matter."""
    mean = g.op("ReduceMean", x, axes=[1], keepdims=0)
    length = g.op("ReduceL2", mean, axes=[1], keepdims=1)
    return g.op("Div", mean, length)


_IDS = (
    TensorSpec("input_ids", "int64", (BATCH, TOKENS)),
    TensorSpec("token_type_ids", "int64", (BATCH, TOKENS)),
)
_ID_RANGES = {"input_ids": (0, _WORDS - 1), "token_type_ids": (0, _TYPES - 1)}
RECIPE = Recipe(
    name="minilm_l6",
    version=1,
    inputs=_IDS,
    output=(BATCH, _SIZES.width),
    write=write,
    ranges=_ID_RANGES,
)
RAGGED = Recipe(
    name="minilm_l6_ragged",
    version=1,
    inputs=(*_IDS, TensorSpec(LENGTHS, "int64", (BATCH, 1))),
    output=(BATCH, _SIZES.width),
    write=write_ragged,
    ranges={**_ID_RANGES, LENGTHS: (1, TOKENS)},
)
