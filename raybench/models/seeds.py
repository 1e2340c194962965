"""The seed of random weights, as a user may give it."""

from __future__ import annotations

from raybench.errors import ModelError


def check_seed(seed: int) -> None:
    """Raise ModelError for what is no whole number from 0 up."""
    if isinstance(seed, bool) or seed < 0:
        raise ModelError(f"model.seed={seed!r} is not a seed. Give a whole number from 0 up.")
