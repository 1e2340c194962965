"""The encoder block of BERT, ViT, MiniLM and Whisper: attention, then a feed-forward with GELU by Erf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder


@dataclass(frozen=True)
class Sizes:
    """Sizes of a block, and what its attention leaves out.

    Attributes:
        width: numbers of a token.
        heads: of the attention, which share the width.
        feed_forward: width within the feed-forward.
        key_bias: whether the keys have a bias; Whisper's have none, as it would change nothing.
        mask: name of a value that is added to all scores, 0 or far below 0; None for none.
    """

    width: int = 768
    heads: int = 12
    feed_forward: int = 3072
    key_bias: bool = True
    mask: str | None = None


BASE = Sizes()
WIDTH = BASE.width
BLOCKS = 12
"""Width and number of blocks of BERT-base and ViT-B."""


def embeddings(
    g: GraphBuilder, width: int, tokens: int, rows: tuple[int, int, int], epsilon: float
) -> str:
    """Append BERT's sum of embeddings, of the inputs `input_ids` and `token_type_ids`, normalised.

    Args:
        g: the graph.
        width: numbers of a token.
        tokens: of an item.
        rows: of the tables of words, types and positions.
        epsilon: of the normalisation.
    """
    of_words, of_types, of_positions = rows
    words = g.op("Gather", g.table("words", (of_words, width)), "input_ids", channels=width)
    types = g.op("Gather", g.table("types", (of_types, width)), "token_type_ids", channels=width)
    bounds = (
        g.constant("positions.start", (0,)),
        g.constant("positions.end", (tokens,)),
        g.constant("axis.0", (0,)),
    )
    positions = g.op("Slice", g.table("positions", (of_positions, width)), *bounds)
    x = g.op("Add", g.op("Add", words, types), positions)
    return g.layer_norm(x, epsilon)


def block(
    g: GraphBuilder, x: str, label: str, epsilon: float, norm_first: bool, sizes: Sizes = BASE
) -> str:
    """Append one block; `norm_first` is the pre-LN of ViT and Whisper, else BERT's post-LN."""
    if norm_first:
        x = g.op("Add", x, _attention(g, g.layer_norm(x, epsilon), label, sizes))
        return g.op("Add", x, _feed_forward(g, g.layer_norm(x, epsilon), label, sizes))
    x = g.layer_norm(g.op("Add", x, _attention(g, x, label, sizes)), epsilon)
    return g.layer_norm(g.op("Add", x, _feed_forward(g, x, label, sizes)), epsilon)


def _attention(g: GraphBuilder, x: str, label: str, sizes: Sizes) -> str:
    width, of_head = sizes.width, sizes.width // sizes.heads
    split = g.constant("heads.split", (0, -1, sizes.heads, of_head))
    merge = g.constant("heads.merge", (0, -1, width))
    scale = g.constant("attention.scale", 1 / math.sqrt(of_head), "float32")

    def heads(part: str, order: list[int], bias: bool = True) -> str:
        y = g.linear(x, width, f"{label}.{part}", bias)
        return g.op("Transpose", g.op("Reshape", y, split), perm=order)

    query, key = heads("q", [0, 2, 1, 3]), heads("k", [0, 2, 3, 1], sizes.key_bias)
    value = heads("v", [0, 2, 1, 3])
    scores = g.op("Mul", g.op("MatMul", query, key), scale)
    if sizes.mask is not None:
        scores = g.op("Add", scores, sizes.mask)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), merge, channels=width)
    return g.linear(mixed, width, f"{label}.out")


def _feed_forward(g: GraphBuilder, x: str, label: str, sizes: Sizes) -> str:
    wide = gelu(g, g.linear(x, sizes.feed_forward, f"{label}.up"))
    return g.linear(wide, sizes.width, f"{label}.down")


def gelu(g: GraphBuilder, x: str) -> str:
    """Append GELU, exact by the error function."""
    root = g.constant("gelu.root", 1 / math.sqrt(2), "float32")
    one, half = g.constant("gelu.one", 1, "float32"), g.constant("gelu.half", 0.5, "float32")
    gate = g.op("Add", g.op("Erf", g.op("Mul", x, root)), one)
    return g.op("Mul", g.op("Mul", x, gate), half)
