"""Which dimension of each input is the batch, in a file that leaves the batch open.

It is where the user writes N; else the dimension with the name of a batch, wherever it stands; else
the open dimension that an input begins with. The same symbol is the batch in every other input, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from raybench.errors import ModelError
from raybench.models.model import BATCH
from raybench.models.shapes.shape_request import setting, shape_setting, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.models.shapes.shape_request import OpenInput, ShapeRequest

    Axes = dict[str, int | None]

_SHORT = frozenset({"n", "b", "bs", "bsz"})
"""Short names of a batch; any name with "batch" in it is one, too."""

_SIZE = re.compile(
    r"seq|len|time|frame|step|token|word|char|phoneme|height|width|channel|^[tlhwc]$", re.IGNORECASE
)
"""Names that other dimensions have: an input that begins with one may have its batch elsewhere."""


def batch_axes(request: ShapeRequest) -> dict[str, int | None]:
    """Return the position of the batch in each input; None for an input without one.

    Raises:
        ModelError: where what the user has given contradicts it, or an input could be meant either
            way; the message names what to set.
    """
    axes: Axes = {
        name: shape.index(BATCH) if BATCH in shape else None
        for name, shape in request.written.items()
    }
    batches = batch_symbols(request, axes)
    for entry in request.inputs:
        if entry.name not in axes:
            axis = _named_axis(request, entry, batches)
            if axis is not None:
                axes[entry.name] = axis
    certain = batch_symbols(request, axes)
    rest = [entry for entry in request.inputs if entry.name not in axes]
    axes |= {entry.name: 0 for entry in rest if _begins_with_batch(request, entry, certain)}
    batches = batch_symbols(request, axes)
    for entry in rest:
        if entry.name not in axes:
            places = (i for i, dim in enumerate(entry.dims or ()) if dim in batches)
            axes[entry.name] = next(places, None)
    request.check_sizes(batches)
    _refuse_number_for_batch(request, certain)
    return axes


def batch_symbols(request: ShapeRequest, axes: Mapping[str, int | None]) -> set[str]:
    """Return the symbols that the file has where the batch is."""
    places = ((entry, axes.get(entry.name)) for entry in request.inputs)
    dims = (entry.at(axis) for entry, axis in places if axis is not None)
    return {dim for dim in dims if isinstance(dim, str)}


def _named_axis(request: ShapeRequest, entry: OpenInput, batches: set[str]) -> int | None:
    """Return the position of a known batch, or of the first dimension with the name of one."""
    dims = entry.dims or ()
    symbols = {dim for dim in dims if isinstance(dim, str)}
    long = {dim for dim in symbols if "batch" in dim.lower()}
    short = {dim for dim in symbols if dim.lower() in _SHORT and dim not in request.sizes}
    if dims and dims[0] is None:
        short = set()  # the dimension without a name is the likelier batch
    for names in (batches, long, short):
        for axis, dim in enumerate(dims):
            if dim in names:
                return axis
    return None


def _begins_with_batch(request: ShapeRequest, entry: OpenInput, certain: set[str]) -> bool:
    """Return whether the first dimension is the batch, for an input without any named as one.

    Raises:
        ModelError: this one begins with another symbol than inputs that have the batch by name, or
            with a symbol that is the name of a size.
    """
    if entry.dims is None:
        return True
    if not entry.dims or isinstance(entry.dims[0], int):
        return False
    first = entry.dims[0]
    if first is None or not (certain or _SIZE.search(first)):
        return True
    if first in request.sizes:
        return False
    raise ModelError(
        f"Input {entry.name!r} of {request.model!r} begins with {first!r}, which may be a size or the batch. "
        f"Set {setting(f'shapes.{first}', '...')} if it is a size, or "
        f"{shape_setting(entry.name, entry.dims, 0)} if it is the batch."
    )


def _refuse_number_for_batch(request: ShapeRequest, certain: set[str]) -> None:
    """Refuse a shape without N for an input whose batch is open in the file."""
    for entry in request.inputs:
        shape = request.written.get(entry.name, (BATCH,))
        if BATCH in shape or not entry.dims:
            continue
        axis = _named_axis(request, entry, certain)
        first = entry.dims[0]
        open_first = first is None or (isinstance(first, str) and not _SIZE.search(first))
        if axis is None and not certain and open_first:
            axis = 0
        if axis is not None:
            raise ModelError(
                f"model.shapes.{entry.name}={text(shape)} gives a number for the batch, which the grid sets. "
                f"Set {shape_setting(entry.name, shape, axis)}."
            )
