"""Columns of what a network moves for each item, from its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.models.model import Model, TensorSpec


def traffic_columns(model: Model) -> dict[str, int | None]:
    """Return what an item needs of memory and link, as columns of `trials`; unknown without a graph."""
    return {
        "table_parameters": model.table_parameters,
        "activations_per_item": model.activations,
        "input_bytes_per_item": _item_bytes(model.inputs),
        "output_bytes_per_item": _item_bytes(model.outputs),
    }


def _item_bytes(specs: Iterable[TensorSpec]) -> int | None:
    """Return the bytes of an item in all tensors; None without a tensor, or if one is unknown."""
    known = [spec.item_bytes for spec in specs]
    sizes = [size for size in known if size is not None]
    return sum(sizes) if sizes and len(sizes) == len(known) else None
