"""Which models of a folder had random weights, although their names are those of trained networks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_RANDOM = re.compile(r"(?:timm|torchvision|hf):.*@.*/seed=\d+/\w+")
"""Identity of a model of another package that was exported without trained weights."""


def untrained(trials: pa.Table) -> tuple[str, ...]:
    """Return the names of models that are trained elsewhere and were random here, sorted.

    Networks of the zoo are random in every run, so they are not named.
    """
    pairs = trials.select(["model", "model_identity"]).group_by(["model", "model_identity"])
    rows = pairs.aggregate([]).to_pylist()
    return tuple(sorted({r["model"] for r in rows if _RANDOM.fullmatch(r["model_identity"] or "")}))


def untrained_sentence(trials: pa.Table) -> str | None:
    """Return what to say of these models below a table; None where there are none."""
    names = untrained(trials)
    if not names:
        return None
    return f"Random weights, not trained ones: {', '.join(names)}. Their outputs mean nothing."
