"""A decoder of a few thousand weights in the place of the zoo's smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from raybench.models.decoder import DecoderSizes
from raybench.models.decoder_recipe import DecoderRecipe
from raybench.models.zoo import RECIPES

if TYPE_CHECKING:
    import pytest

TINY = DecoderSizes(
    width=32, blocks=2, heads=4, kv_heads=2, head=8, feed_forward=48, vocabulary=67, tied=True, theta=1e4
)  # fmt: skip
PARAMETERS = 67 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32) + 32


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoder_125m_prefill and decoder_125m_step have the sizes of `TINY`."""
    parts: tuple[Literal["prefill", "step"], ...] = ("prefill", "step")
    for part in parts:
        recipe = DecoderRecipe.usual("decoder_125m", 1, TINY, part)
        monkeypatch.setitem(RECIPES, recipe.name, recipe)
