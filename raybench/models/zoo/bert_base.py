"""BERT-base: encoder and pooler over 128 tokens, without a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models import transformer
from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_TOKENS = 128
_WORDS, _POSITIONS, _TYPES = 30522, 512, 2
_EPSILON = 1e-12


def write(g: GraphBuilder) -> str:
    """Embeddings, twelve post-LN blocks, pooler over the first token."""
    width = transformer.WIDTH
    x = transformer.embeddings(g, width, _TOKENS, (_WORDS, _TYPES, _POSITIONS), _EPSILON)
    for index in range(transformer.BLOCKS):
        x = transformer.block(g, x, f"block_{index}", _EPSILON, norm_first=False)
    first = g.op("Gather", x, g.constant("first", 0), axis=1)
    return g.op("Tanh", g.linear(first, width, "pooler"))


RECIPE = Recipe(
    name="bert_base",
    version=1,
    inputs=(
        TensorSpec("input_ids", "int64", (BATCH, _TOKENS)),
        TensorSpec("token_type_ids", "int64", (BATCH, _TOKENS)),
    ),
    output=(BATCH, transformer.WIDTH),
    write=write,
    ranges={"input_ids": (0, _WORDS - 1), "token_type_ids": (0, _TYPES - 1)},
)
