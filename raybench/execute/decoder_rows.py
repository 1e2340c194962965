"""Columns of `trials` that say what a decoder holds and how many tokens it reads or generates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines import registry
from raybench.engines.base import KeepsState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.experiment import Point
    from raybench.models.model import Model, TensorSpec

_CACHES = ("key.", "value.")
"""Begin the names of a prefill's outputs that are the cache."""


def decoder_columns(point: Point, model: Model, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a point's tokens, and the bytes of its weights whatever the model.

    Args:
        point: that was measured.
        model: that its workers ran.
        measured: columns of what all workers did.
    """
    tokens = point.tokens_per_item
    if tokens is None:
        return {"weight_bytes": model.weight_bytes}
    return {
        "weight_bytes": model.weight_bytes,
        "kv_cache_bytes": kv_cache_bytes(point, model),
        "tokens_per_s": measured["items_per_s"] * tokens,
    }


def kv_cache_bytes(point: Point, model: Model) -> int | None:
    """Return the bytes of the keys and values that a step reads, or that a prefill makes.

    Those of a step are as the engine keeps them. None for an engine that reads no graph.
    """
    rings = {tensor.input for tensor in model.state if tensor.ring_axis is not None}
    engine = registry.get(point.engine)
    read = [spec for spec in model.inputs if spec.name in rings]
    made = [spec for spec in model.outputs if spec.name.startswith(_CACHES)]

    def itemsize(spec: TensorSpec) -> int:
        if read and issubclass(engine, KeepsState):
            return engine.kept_itemsize(point.precision, np.dtype(spec.dtype))
        return np.dtype(spec.dtype).itemsize

    sizes = (math.prod(spec.with_batch(point.batch_size)) * itemsize(spec) for spec in read or made)
    return sum(sizes) or None
