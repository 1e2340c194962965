"""The zoo: networks that raybench writes itself, with random weights and no download.

`gemm` and `copy` are none: they show what arithmetic, memory and link of a device can alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.zoo import (
    alexnet,
    bert_base,
    gemm,
    googlenet,
    lenet,
    memory_copy,
    resnet50,
    vit_b16,
)

if TYPE_CHECKING:
    from raybench.models.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (lenet, alexnet, googlenet, resnet50, bert_base, vit_b16, gemm, memory_copy)
}


def names() -> tuple[str, ...]:
    """Names of all networks, oldest first, and of what shows one part of a device alone."""
    return tuple(RECIPES)
