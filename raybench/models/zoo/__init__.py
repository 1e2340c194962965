"""The zoo: networks that raybench writes itself, with random weights and no download.

`gemm` and `copy` are none: they show what arithmetic, memory and link of a device can alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from raybench.models.zoo import (
    alexnet,
    bert_base,
    decoders,
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
    from collections.abc import Mapping

    from raybench.models.decoder_recipe import DecoderRecipe
    from raybench.models.recipe import Recipe

ZooRecipe = Union["Recipe", "DecoderRecipe"]

_ALL: tuple[ZooRecipe, ...] = (
    *(lenet.RECIPE, alexnet.RECIPE, googlenet.RECIPE, resnet50.RECIPE, bert_base.RECIPE),
    *(vit_b16.RECIPE, dlrm.RECIPE, minilm_l6.RECIPE, whisper_base.RECIPE, yolov8s.RECIPE),
    minilm_l6.RAGGED,
    *decoders.RECIPES,
    *(gemm.RECIPE, memory_copy.RECIPE),
)
RECIPES: dict[str, ZooRecipe] = {recipe.name: recipe for recipe in _ALL}


def names() -> tuple[str, ...]:
    """Names of all networks, oldest first, and of what shows one part of a device alone."""
    return tuple(RECIPES)


def lengths_of(model: str) -> Mapping[str, int]:
    """Return the lengths in tokens that a model has unless axes say otherwise; none for most models."""
    return RECIPES[model].lengths if model in RECIPES else {}
