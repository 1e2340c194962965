"""Real inputs: items read from a user's files and checked against the inputs of a model.

An .npz file holds an array for each input. A folder holds an .npy file for each input, named after
it, or, for a model with one input, items: any number of .npy files, or of images, in its subfolders
too. Other files in it are not read.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError
from raybench.experiment import InputFiles
from raybench.models import source
from raybench.models.cache import key_of, sha256_of
from raybench.models.items.images import IMAGES
from raybench.models.items.stored_items import (
    array_columns,
    check_values,
    item_columns,
    load_array,
    load_arrays,
)
from raybench.models.model import BATCH
from raybench.models.shapes.batch_axis import batch_axes
from raybench.models.shapes.input_values import given_items
from raybench.models.shapes.shape_request import ShapeRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from raybench.experiment import ModelSettings
    from raybench.models.items.batches import BatchPool, ItemSource
    from raybench.models.items.stored_items import ItemColumn
    from raybench.models.model import TensorSpec
    from raybench.models.source import CheckedModel

Array = np.ndarray[Any, Any]

VERSION = 1
"""Incremented when the same files give other items."""

_ARRAYS = (".npz", ".npy")
_NAMELESS = "arr_0"  # as numpy.savez calls an array that it is given without a name
_TAKES = "Give an .npz file, or a folder of .npy files or images (.png, .jpg)."


# ---------------------------------------------------------------- files


def files_of(path: str) -> tuple[Path, ...]:
    """Return the files behind the setting `model.inputs`, in the order of their names.

    Raises:
        ModelError: there is no such file or folder, or nothing in it can be read.
    """
    root = Path(path).expanduser()
    key = f"model.inputs={path!r}"
    if os.path.isfile(root):  # Path.is_file raises for names that are too long
        if root.suffix.lower() not in (*_ARRAYS, *IMAGES):
            raise ModelError(f"{key} is no file of arrays and no image. {_TAKES}")
        return (root,)
    if not os.path.isdir(root):
        raise ModelError(f"{key} does not exist. {_TAKES}")
    found = {
        file: file.suffix.lower()
        for file in sorted(root.rglob("*"))
        if not any(part.startswith(".") for part in file.relative_to(root).parts)
        and (
            file.suffix.lower() in IMAGES or (file.suffix.lower() == ".npy" and file.parent == root)
        )
        and file.is_file()
    }
    if not found:
        raise ModelError(f"{key} holds no .npy file and no image. {_TAKES}")
    if len({kind == ".npy" for kind in found.values()}) > 1:
        raise ModelError(f"{key} holds .npy files and images. Keep one kind in the folder.")
    return tuple(found)


def files_digest(path: str) -> str:
    """Return the SHA-256 over the content of the files, and in a folder over their names below it."""
    root = Path(path).expanduser()
    total = hashlib.sha256(f"{VERSION}".encode())
    for file in files_of(path):
        name = str(file.relative_to(root)) if file != root else ""
        try:
            status = file.stat()
            total.update(f"\n{name} {_sha256(file, status.st_size, status.st_mtime_ns)}".encode())
        except OSError as error:
            raise ModelError(
                f"{str(file)!r} of model.inputs cannot be read: {error.strerror}. Allow it, or remove the file."
            ) from error
    return total.hexdigest()


@functools.lru_cache(maxsize=65536)
def _sha256(file: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(file)


# ---------------------------------------------------------------- all inputs


@dataclass(frozen=True)
class FileInput:
    """The items that files hold for one input; an `ItemSource` of a pool.

    Attributes:
        spec: the input.
        column: its items.
        key: hash of the files.
    """

    spec: TensorSpec
    column: ItemColumn
    key: str

    def take(self, count: int, seed: tuple[int, int]) -> Array:
        """Return items in an order that depends on the seed, repeated where there are fewer."""
        rng = np.random.Generator(np.random.SFC64(list(seed)))
        order = rng.permutation(len(self.column))
        items = self.column.take(order[:count]).astype(self.spec.dtype, copy=False)
        if len(items) < count:
            items = items.take(np.arange(count), axis=0, mode="wrap")
        return np.ascontiguousarray(items)

    @property
    def cast(self) -> str | None:
        """Which type the items are converted from, e.g. "ids: int64 to int32"; None if from none."""
        stored, wanted = str(self.column.take([0]).dtype), self.spec.dtype
        return None if stored == wanted else f"{self.spec.name}: {stored} to {wanted}"

    def check(self, bounds: tuple[int, int] | None) -> None:
        """Read all items once and refuse values that the model cannot take.

        Args:
            bounds: lowest and highest valid value of an integer input; None where any is.

        Raises:
            ModelError: naming input and file: a file that cannot be read, a value that is not
                finite, that does not fit the type or is out of bounds.
        """
        for part in self.column.parts():
            check_values(self.spec, part, bounds)


def sized(model: str, settings: ModelSettings) -> ModelSettings:
    """Return the settings with the sizes of real inputs, where the model leaves sizes open.

    Sizes that contradict each other are left to the check of the shapes.

    Raises:
        ModelError: the model or the files cannot be used.
    """
    request = ShapeRequest.read(model, source.declared_inputs(model), settings.shapes)
    names = [entry.name for entry in request.inputs]
    needed = [name for name in names if name not in settings.values]
    files = files_of(settings.inputs)
    if not names or _are_items(files, needed):
        return settings
    arrays, _ = _named_arrays(files, names, needed)
    axes = batch_axes(request)
    sizes: dict[str, Any] = {}
    for entry in request.inputs:
        array, dims, axis = arrays.get(entry.name), entry.dims, axes[entry.name]
        if array is None or dims is None or array.ndim != len(dims) or 0 in array.shape:
            continue
        rest = [place for place in range(len(dims)) if place != axis]
        if any(dims[place] is None for place in rest) and entry.name not in request.written:
            sizes[entry.name] = [BATCH if p == axis else n for p, n in enumerate(array.shape)]
        else:
            open_dims = {dims[p]: array.shape[p] for p in rest if isinstance(dims[p], str)}
            sizes |= {str(dim): size for dim, size in open_dims.items()}
    return replace(settings, shapes={**sizes, **settings.shapes})


def inspect(model: str, settings: ModelSettings, checked: CheckedModel) -> InputFiles:
    """Read all real inputs of a model, check them, and return what they are.

    Args:
        model: its name, for messages.
        settings: of the model; with real inputs.
        checked: what is known of it.

    Raises:
        ModelError: they cannot be used, with what to do.
    """
    tables = {name: (0, limit - 1) for name, limit in checked.limits.items()}
    given = {name: (low, high) for name, (low, high) in settings.ranges.items()}
    inputs = open_inputs(settings.inputs, model, checked.inputs, settings.values)
    for name, each in inputs.items():
        each.check({**tables, **given}.get(name))
    items = max(len(each.column) for each in inputs.values())
    casts = tuple(each.cast for each in inputs.values() if each.cast)
    unused = _unused(files_of(settings.inputs), [spec.name for spec in checked.inputs])
    digest = files_digest(settings.inputs)
    return InputFiles(Path(settings.inputs).name, items, digest, casts, unused)


def _unused(files: Sequence[Path], names: Collection[str]) -> tuple[str, ...]:
    """Return the names of arrays that are no inputs; none where files hold items of one input."""
    if _are_items(files, list(names)):
        return ()
    stored = _named_arrays(files, (), ())[1]
    return tuple(name for name in stored if name not in names and stored != [_NAMELESS])


def given_inputs(
    model: str, settings: ModelSettings, specs: Sequence[TensorSpec]
) -> dict[str, Array | ItemSource]:
    """Return the items of the inputs that are not drawn, by name, as `BatchPool` takes them.

    They are values that the user wrote, and items of files.

    Args:
        model: its name, for messages.
        settings: of the model.
        specs: its inputs; none for an engine that reads no graph, which gets no items.

    Raises:
        ModelError: the files cannot be used.
    """
    if not specs:
        return {}
    values = given_items(model, specs, settings.values)
    if not settings.inputs:
        return dict(values)
    return {**values, **open_inputs(settings.inputs, model, specs, values)}


def given_digest(settings: ModelSettings) -> str | None:
    """Return a hash over what `given_inputs` takes from the user, without opening a file's arrays."""
    if not (settings.values or settings.inputs):
        return None
    files = files_digest(settings.inputs) if settings.inputs else None
    return key_of(values=settings.values, files=files)


def refuse_others(path: str, planned: InputFiles | None) -> None:
    """Raise ModelError where the files at a path are not those that the run was planned with."""
    try:
        same = planned is None or files_digest(path) == planned.sha256
    except ModelError:
        same = False
    if not same:
        raise ModelError(
            f"model.inputs={path!r} is missing on {platform.node()}, or holds other data than when the run was "
            "planned. Copy the same files to this path on every node, and leave them alone until the run ends."
        )


def input_notes(files: InputFiles | None, pool: BatchPool) -> tuple[str, ...]:
    """Return what the row of a worker has to say of its real inputs."""
    if files is None:
        return ()
    if not pool.specs:
        return ("This engine reads no inputs, and used none of the real ones.",)
    notes = [f"Real inputs are converted, without loss: {cast}." for cast in files.casts]
    if files.unused:
        notes.append(
            f"Arrays that are no inputs of the model are left out: {', '.join(files.unused)}."
        )
    if pool.items > files.items:
        notes.append(f"{files.items} real items are repeated to fill the {pool.items} of the pool.")
    elif pool.items < files.items:
        notes.append(f"The pool holds {pool.items} of {files.items} real items.")
    return tuple(notes)


def open_inputs(
    path: str, model: str, specs: Sequence[TensorSpec], settled: Collection[str] = ()
) -> dict[str, FileInput]:
    """Find the items of each input; check their names, shapes, types and numbers.

    Args:
        path: the setting `model.inputs`.
        model: name of the model, for messages.
        specs: the inputs of the model.
        settled: names of the inputs that have a value without the files.

    Returns:
        The inputs that the files have items for, by name.

    Raises:
        ModelError: in one sentence, with what to do.
    """
    files = files_of(path)
    needed = [spec for spec in specs if spec.name not in settled]
    rotating = [spec for spec in specs if spec.batch_axis is not None] or list(specs)
    names = [spec.name for spec in needed]
    if _are_items(files, names):
        columns = item_columns(path, model, files, needed)
    else:
        arrays, stored = _named_arrays(files, [spec.name for spec in specs], names)
        _refuse_missing(path, model, [name for name in names if name not in arrays], stored)
        columns = array_columns(path, model, arrays, specs)
    _refuse_counts(path, {s.name: len(columns[s.name]) for s in rotating if s.name in columns})
    twice = next((name for name in settled if name in columns), None)
    if twice is not None:
        raise ModelError(
            f"Input {twice!r} has a value in model.values.{twice} and items in model.inputs={path!r}. Give one of them."
        )
    key = files_digest(path)
    return {
        spec.name: FileInput(spec, columns[spec.name], key)
        for spec in specs
        if spec.name in columns
    }


def _refuse_counts(path: str, counts: Mapping[str, int]) -> None:
    if not counts or 0 in counts.values():
        empty = next((name for name, count in counts.items() if count == 0), None)
        which = f"no item of input {empty!r}" if empty else "no input that has a batch"
        raise ModelError(f"model.inputs={path!r} holds {which}. Give at least one item.")
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise ModelError(
            f"model.inputs={path!r} holds different numbers of items: {each}. Give every input as many."
        )


def _are_items(files: Sequence[Path], needed: Sequence[str]) -> bool:
    """Tell whether files hold items of one input, and not an array for each input."""
    kind = files[0].suffix.lower()
    named = {file.stem for file in files}
    return kind in IMAGES or (kind == ".npy" and [name in named for name in needed] == [False])


def _named_arrays(
    files: Sequence[Path], names: Sequence[str], needed: Sequence[str]
) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays of inputs by name, and the names of all arrays there are."""
    if files[0].suffix.lower() == ".npy":
        arrays = {file.stem: load_array(file) for file in files if file.stem in names}
        return arrays, [file.stem for file in files]
    arrays, stored = load_arrays(files[0], names)
    if len(needed) == 1 and stored == [_NAMELESS]:
        arrays = {needed[0]: load_arrays(files[0], stored)[0][_NAMELESS]}
    return arrays, stored


def _refuse_missing(path: str, model: str, missing: Sequence[str], stored: Sequence[str]) -> None:
    if missing:
        held = ", ".join(stored[:8]) or "none"
        raise ModelError(
            f"model.inputs={path!r} has no array for input {missing[0]!r} of {model!r}. It has: {held}. "
            f"Add one of that name, or set model.values.{missing[0]}=..."
        )
