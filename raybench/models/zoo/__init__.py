"""The zoo: networks that raybench writes itself, with random weights and no download.

`gemm` and `copy` are none: they show what arithmetic, memory and link of a device can alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.zoo import (
    alexnet,
    bert_base,
    dlrm,
    gemm,
    googlenet,
    lenet,
    memory_copy,
    minilm_l6,
    resnet50,
    vit_b16,
    whisper_base,
    yolov8s,
)

if TYPE_CHECKING:
    from raybench.models.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (
        *(lenet, alexnet, googlenet, resnet50, bert_base, vit_b16),
        *(dlrm, minilm_l6, whisper_base, yolov8s),
        *(gemm, memory_copy),
    )
}


def names() -> tuple[str, ...]:
    """Names of all networks, oldest first, and of what shows one part of a device alone."""
    return tuple(RECIPES)
