"""Input shapes: where the batch is, and a number for every other dimension.

A file without an open batch is fixed to the number that all its inputs begin with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raybench.errors import ModelError
from raybench.models.model import BATCH, TensorSpec
from raybench.models.shapes.batch_axis import batch_axes, batch_symbols
from raybench.models.shapes.shape_request import ShapeRequest, setting, shape_setting, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.models.shapes.shape_request import OpenInput

VERSION = 4
"""Incremented when the same file gives other inputs."""


@dataclass(frozen=True)
class ClosedShapes:
    """The inputs with the batch and numbers.

    Attributes:
        inputs: inputs; the batch is `BATCH`, every other dimension is a number. If the file is
            fixed to a batch, the nodes may not take another, even where an input has `BATCH`.
        fixed: batch that the file is fixed to; None if it is open.
    """

    inputs: tuple[TensorSpec, ...]
    fixed: int | None = None


def close_shapes(model: str, inputs: Sequence[OpenInput], given: Mapping[str, Any]) -> ClosedShapes:
    """Return the inputs with the batch as `BATCH` and numbers elsewhere.

    Args:
        model: the model's name, for messages.
        inputs: inputs as the file declares them.
        given: sizes by symbol ("sequence": 128) or shapes by input ("ids": ["N", 128]).

    Raises:
        ModelError: an unknown key, a shape that contradicts the file, a size that is missing, or a
            batch that is not clear; the message names what to set.
    """
    request = ShapeRequest.read(model, inputs, given)
    axes = batch_axes(request)
    filled = tuple(_filled(request, entry, axes[entry.name]) for entry in request.inputs)
    _refuse_missing(request, filled, axes)
    if filled and all(0 in (entry.dims or ()) for entry in filled):
        raise ModelError(
            f"Every input of {model!r} would be empty: {', '.join(f'{e.name} {text(e.dims)}' for e in filled)}. "
            "Set sizes above 0; only some of the inputs may have 0, as a cache that is empty."
        )
    if all(axis is None for axis in axes.values()):
        return _fixed(request, filled)
    return ClosedShapes(_specs(filled), _opened_by_user(request, axes))


def _filled(request: ShapeRequest, entry: OpenInput, axis: int | None) -> OpenInput:
    """Return an input with the batch and the given sizes filled in."""
    if entry.name in request.written:
        return replace(entry, dims=request.written[entry.name])
    if entry.dims is None:
        return entry
    dims = [request.sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in entry.dims]
    if axis is not None:
        batch = entry.dims[axis]
        # a second dimension with the symbol of the batch needs a number of its own
        dims = [None if isinstance(dim, str) and dim == batch else dim for dim in dims]
        dims[axis] = BATCH
    return replace(entry, dims=tuple(dims))


def _refuse_missing(
    request: ShapeRequest, filled: Sequence[OpenInput], axes: Mapping[str, int | None]
) -> None:
    """Raise ModelError that asks for all missing sizes at once."""
    wanted = []
    batches = batch_symbols(request, axes)
    for entry in filled:
        rest = [dim for axis, dim in enumerate(entry.dims or ()) if axis != axes[entry.name]]
        if entry.dims is None or None in rest or not batches.isdisjoint(rest):
            wanted.append(shape_setting(entry.name, entry.dims, axes[entry.name]))
        else:
            symbols = (dim for dim in rest if isinstance(dim, str))
            wanted.extend(setting(f"shapes.{dim}", "...") for dim in symbols)
    if wanted:
        raise ModelError(
            f"Model {request.model!r} has dynamic dimensions whose sizes cannot be guessed. "
            f"Set {' and '.join(dict.fromkeys(wanted))}. A size may be 0, as that of a cache that is empty."
        )


def _opened_by_user(request: ShapeRequest, axes: Mapping[str, int | None]) -> int | None:
    """Return the batch of the file where the user has written N over it; None without one."""
    batches = {
        entry.name: entry.at(axis)
        for entry in request.inputs
        if (axis := axes[entry.name]) is not None
    }
    numbers = {name: size for name, size in batches.items() if isinstance(size, int)}
    if not numbers:
        return None
    first, fixed = next(iter(numbers.items()))
    for entry in request.inputs:
        if numbers.get(entry.name, fixed) != fixed:
            raise ModelError(
                f"{BATCH} stands for {fixed} in input {first!r} of {request.model!r} and for "
                f"{numbers[entry.name]} in {entry.name!r}. Write it where both have the batch."
            )
        in_doubt = entry.name not in request.written and len(numbers) == len(batches)
        if in_doubt and entry.dims and entry.dims[0] == fixed:
            raise ModelError(
                f"Input {entry.name!r} of {request.model!r} begins with {fixed}, as {first!r} does. "
                f"Set {shape_setting(entry.name, entry.dims, 0)} if that is the batch, or "
                f"{shape_setting(entry.name, entry.dims, None)} if it is not."
            )
    return fixed


def _fixed(request: ShapeRequest, filled: Sequence[OpenInput]) -> ClosedShapes:
    """Return the inputs of a file without an open batch, with N first where they agree on one."""
    plain = [entry for entry in filled if entry.dims and entry.name not in request.written]
    in_file = {entry.name: entry.at(0) for entry in request.inputs if entry.dims}
    if any(isinstance(in_file[entry.name], str) for entry in plain):  # a size, as the user says
        return ClosedShapes(_specs(filled), fixed=1)
    firsts = {entry.at(0) for entry in plain}
    if len(firsts) > 1 and 1 not in firsts:
        raise ModelError(
            f"The inputs of {request.model!r} begin with different numbers, so it is not clear which is the batch: "
            f"{', '.join(f'{entry.name} {text(entry.dims)}' for entry in plain)}. "
            f"Set {' and '.join(_proposal(request, plain))}, with {BATCH} where the batch stands."
        )
    if len(firsts) != 1:
        return ClosedShapes(_specs(filled), fixed=1)
    (fixed,) = firsts
    assert isinstance(fixed, int)
    opened = {entry.name for entry in plain}
    inputs = [
        replace(entry, dims=(BATCH, *(entry.dims or ())[1:])) if entry.name in opened else entry
        for entry in filled
    ]
    return ClosedShapes(_specs(inputs), fixed)


def _proposal(request: ShapeRequest, plain: Sequence[OpenInput]) -> list[str]:
    """Return shapes with N at a number that all inputs have; if they share none, in the first."""
    in_file = {entry.name: entry.dims or () for entry in request.inputs}
    dims = [in_file[entry.name] for entry in plain]
    numbers = (dim for dim in dims[0] if isinstance(dim, int))
    common = next((size for size in numbers if all(size in other for other in dims)), None)
    axes = [each.index(common) for each in dims] if common else [0, *[None] * len(dims)]
    return [
        shape_setting(entry.name, entry.dims, axis)
        for entry, axis in zip(plain, axes, strict=False)
    ]


def _specs(entries: Sequence[OpenInput]) -> tuple[TensorSpec, ...]:
    specs = []
    for entry in entries:
        shape = tuple(dim for dim in entry.dims or () if dim is not None)
        specs.append(TensorSpec(entry.name, entry.dtype, shape))
    return tuple(specs)
