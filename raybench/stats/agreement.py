"""Which of several values that ought to be equal are not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


def minority(values: Sequence[Hashable]) -> list[int]:
    """Return the places of the values that are not the most frequent one.

    Where no value is held by more than half, nothing says which is the odd one: all places.
    """
    counts = Counter(values)
    if len(counts) < 2:
        return []
    usual, count = counts.most_common(1)[0]
    if 2 * count <= len(values):
        return list(range(len(values)))
    return [place for place, value in enumerate(values) if value != usual]
