"""The encoder block that BERT and ViT share: 12 heads of 64, feed-forward 3072, GELU by Erf."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

WIDTH = 768
HEADS = 12
FEED_FORWARD = 3072
BLOCKS = 12


def block(g: GraphBuilder, x: str, label: str, epsilon: float, norm_first: bool) -> str:
    """Append one block; `norm_first` is ViT's pre-LN, else BERT's post-LN."""
    if norm_first:
        x = g.op("Add", x, _attention(g, g.layer_norm(x, epsilon), label))
        return g.op("Add", x, _feed_forward(g, g.layer_norm(x, epsilon), label))
    x = g.layer_norm(g.op("Add", x, _attention(g, x, label)), epsilon)
    return g.layer_norm(g.op("Add", x, _feed_forward(g, x, label)), epsilon)


def _attention(g: GraphBuilder, x: str, label: str) -> str:
    split = g.constant("heads.split", (0, -1, HEADS, WIDTH // HEADS))
    merge = g.constant("heads.merge", (0, -1, WIDTH))
    scale = g.constant("attention.scale", 1 / math.sqrt(WIDTH // HEADS), "float32")

    def heads(part: str, order: list[int]) -> str:
        y = g.linear(x, WIDTH, f"{label}.{part}")
        return g.op("Transpose", g.op("Reshape", y, split), perm=order)

    query, key, value = heads("q", [0, 2, 1, 3]), heads("k", [0, 2, 3, 1]), heads("v", [0, 2, 1, 3])
    scores = g.op("Mul", g.op("MatMul", query, key), scale)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), merge, channels=WIDTH)
    return g.linear(mixed, WIDTH, f"{label}.out")


def _feed_forward(g: GraphBuilder, x: str, label: str) -> str:
    return g.linear(_gelu(g, g.linear(x, FEED_FORWARD, f"{label}.up")), WIDTH, f"{label}.down")


def _gelu(g: GraphBuilder, x: str) -> str:
    root = g.constant("gelu.root", 1 / math.sqrt(2), "float32")
    one, half = g.constant("gelu.one", 1, "float32"), g.constant("gelu.half", 0.5, "float32")
    gate = g.op("Add", g.op("Erf", g.op("Mul", x, root)), one)
    return g.op("Mul", g.op("Mul", x, gate), half)
