"""Items of one input as they are stored: in one array, or in files of their own.

Arrays are as the model would take them, with any number of items along the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from typing_extensions import override

from raybench.errors import ModelError
from raybench.models.items.images import IMAGES, ImageLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from raybench.models.model import TensorSpec

Array = np.ndarray[Any, Any]
Ints = np.ndarray[Any, np.dtype[np.int64]]

_PART_BYTES = 1 << 26
"""Size of the parts in which a large array is checked."""


@dataclass(frozen=True)
class ItemPart:
    """Some items of an input, and where they are.

    Attributes:
        source: their file.
        first: number of the first of them there.
        items: the items, shape (items, *item shape).
    """

    source: str
    first: int
    items: Array


class ItemColumn(Protocol):
    """The items of one input, in the layout and not yet in the type of the input."""

    def __len__(self) -> int:
        """Return the number of items."""

    def take(self, places: Sequence[int] | Ints) -> Array:
        """Return the items at these places, shape (places, *item shape)."""

    def parts(self) -> Iterator[ItemPart]:
        """Yield all items once."""


@dataclass(frozen=True)
class ArrayColumn(ItemColumn):
    """Items in one array, shape (items, *item shape)."""

    source: str
    items: Array

    @override
    def __len__(self) -> int:
        return len(self.items)

    @override
    def take(self, places: Sequence[int] | Ints) -> Array:
        return self.items[np.asarray(places, np.intp)]

    @override
    def parts(self) -> Iterator[ItemPart]:
        item_bytes = max(1, self.items.nbytes // max(1, len(self.items)))
        step = max(1, _PART_BYTES // item_bytes)
        for start in range(0, len(self.items), step):
            yield ItemPart(self.source, start, self.items[start : start + step])


@dataclass(frozen=True)
class FileColumn(ItemColumn):
    """Items in files of their own.

    Attributes:
        places: file of each item, and the item's place in it.
        read: returns the items of a file, shape (items, *item shape).
    """

    places: tuple[tuple[Path, int], ...]
    read: Callable[[Path], Array]

    @override
    def __len__(self) -> int:
        return len(self.places)

    @override
    def take(self, places: Sequence[int] | Ints) -> Array:
        found = (self.places[place] for place in places)
        return np.stack([self.read(file)[index] for file, index in found])

    @override
    def parts(self) -> Iterator[ItemPart]:
        for file in dict.fromkeys(file for file, _ in self.places):
            yield ItemPart(str(file), 0, self.read(file))


def load_arrays(file: Path, names: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """Return arrays of an .npz file, and the names of all that it holds.

    Args:
        file: the file.
        names: which arrays to load, where it has them.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("it is one array, whose file would end in .npy")
            return {name: stored[name] for name in names if name in stored.files}, stored.files
    except Exception as error:  # whatever a damaged file leads the readers of zip and npy to
        raise _unreadable(file, error) from error


def load_array(file: Path) -> Array:
    """Return the array of an .npy file, read when it is used; raises ModelError if it cannot be."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except Exception as error:  # likewise
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split()).rstrip(".")[:200] or type(error).__name__
    return ModelError(
        f"{str(file)!r} cannot be read as arrays: {reason}. Write plain arrays with numpy.savez or numpy.save."
    )


def array_columns(
    path: str,
    model: str,
    arrays: Mapping[str, Array],
    specs: Sequence[TensorSpec],
) -> dict[str, ItemColumn]:
    """Return the items of each input that has an array.

    Args:
        path: of the files, for messages.
        model: its name, for messages.
        arrays: by name; those that name no input are left out.
        specs: the inputs of the model.

    Raises:
        ModelError: an array whose shape or type does not fit its input.
    """
    alone = not any(spec.batch_axis is not None for spec in specs)
    columns: dict[str, ItemColumn] = {}
    for spec in specs:
        if spec.name in arrays:
            array = arrays[spec.name]
            items = _items_first(array, spec, alone)
            if items is None:
                raise _other_shape(path, model, spec, array.shape)
            _refuse_type(path, spec, array.dtype)
            columns[spec.name] = ArrayColumn(path, items)
    return columns


def _items_first(array: Array, spec: TensorSpec, alone: bool) -> Array | None:
    """Return an array as (items, *item shape); None if it does not fit the input.

    Args:
        array: as the model would take it, with any number of items.
        spec: the input.
        alone: whether no input of the model has a batch: then an item is all that it takes.
    """
    axis, shape = spec.batch_axis, spec.with_batch(1)
    if axis is not None:
        if array.ndim != len(shape):
            return None
        items = np.moveaxis(array, axis, 0)
        return items if items.shape[1:] == _item_shape(spec) else None
    if array.shape == shape:
        return array[None]
    if not alone:
        return None
    if array.shape[1:] == shape:
        return array
    whole = array.ndim == len(shape) > 0 and array.shape[1:] == shape[1:]
    return array.reshape(-1, *shape) if whole and len(array) % shape[0] == 0 else None


def item_columns(
    path: str, model: str, files: Sequence[Path], needed: Sequence[TensorSpec]
) -> dict[str, ItemColumn]:
    """Return the items of the one input that needs any, from .npy files or images.

    Raises:
        ModelError: several inputs need items, or a file does not fit the input.
    """
    if len(needed) != 1:
        names = ", ".join(spec.name for spec in needed) or "none"
        raise ModelError(
            f"model.inputs={path!r} holds items of one input, and {model!r} needs {names}. "
            "Give an .npz file with an array for each."
        )
    (spec,) = needed
    if files[0].suffix.lower() in IMAGES:
        layout = ImageLayout.of(spec, _item_shape(spec))
        places = tuple((file, 0) for file in files)
        return {spec.name: FileColumn(places, lambda file: _as_items(layout.read(file), spec))}
    counts = {}
    for file in files:
        array = load_array(file)
        items = _file_items(array, spec)
        if items is None:
            raise _other_shape(str(file), model, spec, array.shape)
        _refuse_type(str(file), spec, array.dtype)
        counts[file] = len(items)

    def read(file: Path) -> Array:
        items = _file_items(load_array(file), spec)
        assert items is not None  # as it was above
        return items

    places = tuple((file, index) for file, count in counts.items() for index in range(count))
    return {spec.name: FileColumn(places, read)}


def _file_items(array: Array, spec: TensorSpec) -> Array | None:
    """Return the items of a file: one without a batch, or several with one."""
    if spec.batch_axis is not None and array.shape == _item_shape(spec):
        return array[None]
    return _items_first(array, spec, True)


def _as_items(item: Array, spec: TensorSpec) -> Array:
    return item.reshape(1, *_stored_shape(spec))


def _item_shape(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one item; a fixed batch of 1 counts as none."""
    shape, axis = spec.with_batch(1), spec.batch_axis
    if axis is None:
        return shape[1:] if shape[:1] == (1,) else shape
    return (*shape[:axis], *shape[axis + 1 :])


def _stored_shape(spec: TensorSpec) -> tuple[int, ...]:
    return spec.with_batch(1) if spec.batch_axis is None else _item_shape(spec)


# ---------------------------------------------------------------- faults


def _other_shape(source: str, model: str, spec: TensorSpec, shape: tuple[int, ...]) -> ModelError:
    return ModelError(
        f"Input {spec.name!r} of {model!r} has shape {_text(spec.shape)}, and its array in {source!r} {_text(shape)}. "
        "Give arrays that differ from it in the batch alone; model.shapes sets the sizes that the model leaves open."
    )


def _text(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _refuse_type(source: str, spec: TensorSpec, dtype: np.dtype[Any]) -> None:
    """Refuse a type whose values the input's type may not hold; integers are checked by value."""
    wanted = np.dtype(spec.dtype)
    integers = dtype.kind in "iu" and wanted.kind in "iu"
    if dtype.kind not in "biuf" or not (integers or np.can_cast(dtype, wanted, "safe")):
        raise ModelError(
            f"Input {spec.name!r} in {source!r} is {dtype}, and the model takes {spec.dtype}, which cannot hold all "
            f"its values. Convert it as you see fit: array.astype({spec.dtype!r})."
        )


def check_values(spec: TensorSpec, part: ItemPart, bounds: tuple[int, int] | None) -> None:
    """Raise ModelError for values that are not finite, do not fit the type or are out of bounds.

    Args:
        spec: the input.
        part: items of it.
        bounds: lowest and highest valid value; None where any is.
    """
    items, wanted = part.items, np.dtype(spec.dtype)
    if items.dtype.kind == "f":
        _refuse_where(~np.isfinite(items), spec, part, "which is not finite")
    if items.dtype.kind in "iu" and wanted.kind in "iu":
        info = np.iinfo(wanted)
        outside = _outside(items, int(info.min), int(info.max))
        _refuse_where(outside, spec, part, f"and {spec.dtype} goes from {info.min} to {info.max}")
    if items.dtype.kind in "iu" and bounds is not None:
        low, high = bounds
        why = f"outside {low} to {high}: the table that it indexes, or model.ranges.{spec.name}"
        _refuse_where(_outside(items, low, high), spec, part, why)


def _outside(items: Array, low: int, high: int) -> Array | None:
    """Tell which integers are out of bounds; None if none is."""
    if items.size == 0 or (low <= int(items.min()) and int(items.max()) <= high):
        return None
    info = np.iinfo(items.dtype)  # a bound beyond the type would not compare with it
    return (items < max(low, int(info.min))) | (items > min(high, int(info.max)))


def _refuse_where(wrong: Array | None, spec: TensorSpec, part: ItemPart, why: str) -> None:
    if wrong is None or not wrong.any():
        return
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    raise ModelError(
        f"Item {part.first + place[0]} of {spec.name!r} in {part.source!r} holds {part.items[place]}, {why}. "
        "Correct the value, or leave the item out."
    )
