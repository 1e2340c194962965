"""The zoo: networks that raybench writes itself, with random weights and no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.zoo import alexnet, bert_base, googlenet, lenet, resnet50, vit_b16

if TYPE_CHECKING:
    from raybench.models.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    module.RECIPE.name: module.RECIPE
    for module in (lenet, alexnet, googlenet, resnet50, bert_base, vit_b16)
}


def names() -> tuple[str, ...]:
    """Names of all networks, oldest first."""
    return tuple(RECIPES)
