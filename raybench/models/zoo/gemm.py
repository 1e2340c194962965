"""A square product of matrices, again and again: what the arithmetic of a device can, and little else.

An item is 32 rows of 2,048 numbers, multiplied 16 times by one matrix of 2,048 x 2,048: 2^31
multiply-accumulates, half of ResNet-50's, for 256 KiB in and out. A batch of 128 is 4,096 rows, 0.55 TFLOP,
which PyTorch computes in fp16 on an H200 at 607 TFLOP/s; a batch of 8 takes a core 0.15 s in fp32, 236 GFLOP/s on an
AMD EPYC. The matrix is the same in all products, 16 MiB in fp32, so that caches hold it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

ROWS = 32
SIZE = 2048
PRODUCTS = 16


def write(g: GraphBuilder) -> str:
    """Chain the products on all rows of the batch at once: as batches of 32 rows they would be small."""
    matrix = g.weight(
        "matrix", (SIZE, SIZE), math.sqrt(3.0 / SIZE)
    )  # keeps the variance of the rows
    x = g.op("Reshape", "rows", g.constant("all_rows", (-1, SIZE)), channels=SIZE)
    for _ in range(PRODUCTS):
        x = g.op("MatMul", x, matrix)
    return g.op("Reshape", x, g.constant("items", (-1, ROWS, SIZE)))


RECIPE = Recipe(
    name="gemm",
    version=1,
    inputs=(TensorSpec("rows", "float32", (BATCH, ROWS, SIZE)),),
    output=(BATCH, ROWS, SIZE),
    write=write,
)
