"""`copy`: reads memory and writes it, and computes next to nothing.

An item is 1 MiB, so that items/s are MiB/s, once in and once out. With transfers on a GPU's rate is that of
its link; with transfers off, and on a core, that of its memory, which then carries 2 MiB an item. The sign
of each number is turned, because an engine may leave an identity out. TensorRT 8.6 on an H200 runs it as one
pointwise kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.model import BATCH, TensorSpec
from raybench.models.recipe import Recipe

if TYPE_CHECKING:
    from raybench.models.builder import GraphBuilder

NUMBERS = 2**18
"""Of an item, 4 bytes each."""


def write(g: GraphBuilder) -> str:
    """Turn the sign of every number."""
    return g.op("Neg", "numbers")


RECIPE = Recipe(
    name="copy",
    version=1,
    inputs=(TensorSpec("numbers", "float32", (BATCH, NUMBERS)),),
    output=(BATCH, NUMBERS),
    write=write,
)
