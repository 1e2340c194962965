"""DLRM: a recommender that gathers a row of 26 tables for each item and computes little.

Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and Recommendation Systems",
with the layers of its example for the Criteo Kaggle data: 13 numbers through 512, 256, 64 and 16, products
of every pair of the 27 vectors, 512 and 256 to one probability. Its tables have 33.8 million rows there;
here each has 100,000, 2.6 million in all (166 MB), more than caches hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

_NUMBERS, _TABLES, _ROWS, _WIDTH = 13, 26, 100_000, 16
_BOTTOM, _TOP = (512, 256, 64, _WIDTH), (512, 256)
_VECTORS = _TABLES + 1


def write(g: GraphBuilder) -> str:
    """Dense layers below, gathers, products of pairs, dense layers above."""
    x = "numbers"
    for features in _BOTTOM:
        x = g.fc(x, features, relu=True)
    offsets = g.constant("offsets", [_ROWS * table for table in range(_TABLES)])
    rows = g.op("Add", "categories", offsets)
    gathered = g.op("Gather", g.table("tables", (_TABLES * _ROWS, _WIDTH), std=0.25), rows)
    own = g.op("Reshape", x, g.constant("one_vector", (-1, 1, _WIDTH)))
    vectors = g.op("Concat", own, gathered, axis=1)
    products = g.op("MatMul", vectors, g.op("Transpose", vectors, perm=[0, 2, 1]))
    square = g.op("Reshape", products, g.constant("square", (-1, _VECTORS**2)))
    pairs = [_VECTORS * i + j for i in range(_VECTORS) for j in range(i)]
    pairwise = g.op("Gather", square, g.constant("pairs", pairs), axis=1)
    x = g.op("Concat", x, pairwise, axis=1, channels=_WIDTH + len(pairs))
    for features in _TOP:
        x = g.fc(x, features, relu=True)
    return g.op("Sigmoid", g.fc(x, 1))


RECIPE = Recipe(
    name="dlrm",
    version=1,
    inputs=(
        TensorSpec("numbers", "float32", (BATCH, _NUMBERS)),
        TensorSpec("categories", "int64", (BATCH, _TABLES)),
    ),
    output=(BATCH, 1),
    write=write,
    ranges={"categories": (0, _ROWS - 1)},
)
