"""Columns of what a network moves for each item, from its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from raybench.models.model import Model, TensorSpec


def traffic_columns(model: Model) -> dict[str, int | None]:
    """Return what an item needs of memory and link, as columns of `trials`; unknown without a graph."""
    return {
        "table_parameters": model.table_parameters,
        "activations_per_item": model.activations,
        "input_bytes_per_item": _item_bytes(model.inputs, {one.input for one in model.state}),
        "output_bytes_per_item": _item_bytes(
            model.outputs, model.kept_outputs | {one.output for one in model.state}
        ),
    }


def _item_bytes(specs: Sequence[TensorSpec], on_device: Collection[str]) -> int | None:
    """Return the bytes of an item in all tensors but those that stay; None if one is unknown.

    A graph without any tensor is none that was read.
    """
    if not specs:
        return None
    known = [spec.item_bytes for spec in specs if spec.name not in on_device]
    sizes = [size for size in known if size is not None]
    return sum(sizes) if len(sizes) == len(known) else None
