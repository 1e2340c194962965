"""Values that the user gives for inputs instead of random ones: `model.values.NAME=16000`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError, nearest
from raybench.models.shapes.shape_request import setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.models.model import TensorSpec

    Array = np.ndarray[Any, Any]

_TAKES = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "b": "true or false"}
_KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
"""Kinds of numpy types that a written value may have, by kind of the input's type."""


def given_items(
    model: str, inputs: Sequence[TensorSpec], values: Mapping[str, Any]
) -> dict[str, Array]:
    """Return the items of the inputs that have a value, as `BatchPool` takes them.

    Args:
        model: the model's name, for messages.
        inputs: the model's inputs.
        values: by name of input, a number for all its elements, or a nested list in the shape of
            one item (of the whole input, if it has no batch).

    Raises:
        ModelError: a key that is no input, or a value that its type or shape forbids.
    """
    by_name = {spec.name: spec for spec in inputs}
    for name in values:
        if name not in by_name:
            raise ModelError(
                f"model.values.{name} names no input of {model!r}. {nearest(name, by_name)}"
            )
    return {name: _item(by_name[name], value) for name, value in values.items()}


def refuse_outside(
    model: str,
    given: Mapping[str, Array],
    limits: Mapping[str, int],
    ranges: Mapping[str, Sequence[int]],
) -> None:
    """Refuse given items outside the table that the input indexes or the range given for it.

    Args:
        model: the model's name, for messages.
        given: items by name of input.
        limits: number of valid indices of each input that indexes a table.
        ranges: the user's lowest and highest values.

    Raises:
        ModelError: naming the input, the value and what is allowed.
    """
    for name, items in given.items():
        low, high = items.min(), items.max()
        if name in limits and (low < 0 or high >= limits[name]):
            raise ModelError(
                f"The values of input {name!r} go from {low} to {high} and leave the table of {limits[name]} rows "
                f"that {model!r} indexes. Stay within 0..{limits[name] - 1}."
            )
        if name in ranges and not (ranges[name][0] <= low and high <= ranges[name][1]):
            raise ModelError(
                f"The values of input {name!r} of {model!r} go from {low} to {high}, outside "
                f"model.ranges.{name}={list(ranges[name])}. Leave that range out."
            )


def refuse_senseless(model: str, inputs: Sequence[TensorSpec], known: set[str]) -> None:
    """Refuse to draw what a graph reads as a setting: whole numbers and switches for all items.

    A sample rate, a size or a switch that is 0 or 1 by chance decides what the graph does; a float
    (a threshold, a scale) is drawn as any other, and so is a whole table of numbers.

    Args:
        model: the model's name, for messages.
        inputs: the model's inputs.
        known: names of the inputs that have a value, a range or a table.

    Raises:
        ModelError: naming the input and what to set.
    """
    for spec in inputs:
        alone = spec.batch_axis is None and len(spec.shape) <= 1
        if alone and np.dtype(spec.dtype).kind in "iub" and spec.name not in known:
            blank = _blank(spec)
            value = f"[{', '.join([blank] * int(spec.shape[0]))}]" if spec.shape else blank
            raise ModelError(
                f"Input {spec.name!r} of {model!r} takes {_TAKES[np.dtype(spec.dtype).kind]}, the same for all items, "
                f"and a random value would decide what the graph does. Set {setting(f'values.{spec.name}', value)}."
            )


def _item(spec: TensorSpec, value: Any) -> Array:
    """Return the one item that a value stands for, shape (1, *item shape)."""
    dtype = np.dtype(spec.dtype)
    shape = tuple(int(d) for axis, d in enumerate(spec.shape) if axis != spec.batch_axis)
    written = _array(value)
    if written is None or written.dtype.kind not in _KINDS[dtype.kind]:
        raise ModelError(
            f"{_key(spec, value)} is no value for an input of type {dtype.name}. It takes {_TAKES[dtype.kind]}. "
            f"Set {_form(spec, shape)}."
        )
    if written.shape not in ((), shape):
        raise ModelError(
            f"{_key(spec, value)} has shape {list(written.shape)}, and {_whole(spec)} has {list(shape)}. "
            f"Set {_form(spec, shape)}."
        )
    if not _fits(written, dtype):
        raise ModelError(
            f"{_key(spec, value)} does not fit into {dtype.name}. Give {_TAKES[dtype.kind]} that it holds."
        )
    return np.broadcast_to(written.astype(dtype), (1, *shape)).copy()


def _array(value: Any) -> Array | None:
    """Return a written value as an array; None if it is text, nothing, empty or ragged."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        return None
    return array if array.size and array.dtype.kind in "iufb" else None


def _fits(values: Array, dtype: np.dtype[Any]) -> bool:
    if dtype.kind == "b":
        return True
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, high = values.min().item(), values.max().item()
    kind = type(low)
    return bool(kind(info.min) <= low and high <= kind(info.max))  # false for nan and infinity


def _key(spec: TensorSpec, value: Any) -> str:
    text = str(value)
    return f"model.values.{spec.name}={text if len(text) <= 40 else text[:37] + '...'}"


def _whole(spec: TensorSpec) -> str:
    return "the input" if spec.batch_axis is None else "one item of the input"


def _blank(spec: TensorSpec) -> str:
    """Return what stands for a value in an advice."""
    return "false" if spec.dtype == "bool" else "..."


def _form(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    one = setting(f"values.{spec.name}", _blank(spec))
    return f"{one} for all elements, or a list of shape {list(shape)}" if shape else one
