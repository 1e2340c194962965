"""Items of different lengths: how much of what a network computes is padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.models.zoo.minilm_l6 import LENGTHS, RAGGED, TOKENS

if TYPE_CHECKING:
    from raybench.models.items.batches import BatchPool

_PADDED_TO = {RAGGED.name: TOKENS}


def ragged_notes(model: str, batches: BatchPool) -> tuple[str, ...]:
    """Return the note of a row whose network pads its items: tokens and padding of all batches."""
    padded_to = _PADDED_TO.get(model)
    if padded_to is None or all(spec.name != LENGTHS for spec in batches.specs):
        return ()
    lengths = batches.stored(LENGTHS)
    tokens, computed = int(lengths.sum()), lengths.size * padded_to
    return (
        f"ragged: items of {lengths.min()} to {lengths.max()} tokens, {tokens / lengths.size:.1f} in the mean, "
        f"are padded to {padded_to}: {100 * (1 - tokens / computed):.1f} % of the tokens are padding.",
    )
