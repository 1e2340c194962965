"""Input shapes: every dimension but the batch must become a number, from the file or the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raybench.errors import ModelError, nearest
from raybench.models.model import BATCH, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.models.shape_inference import Shape


@dataclass(frozen=True)
class OpenInput:
    """An input as its file declares it.

    Attributes:
        name: name in the graph.
        dtype: numpy's name of the element type.
        dims: numbers, symbols, or None for a dimension without a name; None if the rank is open.
    """

    name: str
    dtype: str
    dims: Shape | None


def close_shapes(
    model: str, inputs: Sequence[OpenInput], given: Mapping[str, Any]
) -> tuple[TensorSpec, ...]:
    """Return the inputs with the batch as `BATCH` first and numbers elsewhere.

    Args:
        model: the model's name, for messages.
        inputs: inputs as the file declares them.
        given: sizes by symbol ("sequence": 128) or shapes by input ("ids": ["N", 128]).

    Raises:
        ModelError: an unknown key, a shape that contradicts the file, or a size that is missing;
            the message names what to set.
    """
    _refuse_unknown(model, inputs, given)
    filled = [replace(entry, dims=_filled(model, entry, given)) for entry in inputs]
    _refuse_missing(model, filled)
    _refuse_batches(model, inputs, filled)
    return tuple(TensorSpec(entry.name, entry.dtype, _closed(entry)) for entry in filled)


def fixed_batch(inputs: Sequence[OpenInput]) -> int | None:
    """Return the batch that a file is exported for; None if its batch is open."""
    sizes = [entry.dims[0] for entry in inputs if entry.dims]
    return next((size for size in sizes if isinstance(size, int)), None)


def _refuse_unknown(model: str, inputs: Sequence[OpenInput], given: Mapping[str, Any]) -> None:
    batches = {entry.dims[0] for entry in inputs if entry.dims}
    symbols = {
        dim for entry in inputs for dim in (entry.dims or ()) if isinstance(dim, str)
    } - batches
    names = {entry.name for entry in inputs}
    for key, value in given.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            if key not in names:
                raise ModelError(
                    f"model.shapes.{key} names no input of {model!r}. {nearest(key, names)}"
                )
        elif key in batches:
            raise ModelError(
                f"model.shapes.{key} is the batch of {model!r}, which the grid sets. Use batch_size={value} instead."
            )
        elif key not in symbols:
            raise ModelError(
                f"model.shapes.{key} names no dynamic dimension of {model!r}. {nearest(key, symbols)}"
            )
        elif not _is_size(value):
            raise ModelError(
                f"model.shapes.{key}={value!r} is not a size. Give a whole number above 0."
            )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _filled(model: str, entry: OpenInput, given: Mapping[str, Any]) -> Shape | None:
    """Return the dimensions of an input with the given sizes filled in."""
    shape = given.get(entry.name)
    if isinstance(shape, Sequence) and not isinstance(shape, str):
        return _given_shape(model, entry, shape)
    if entry.dims is None:
        return None
    rest = (given.get(dim, dim) if isinstance(dim, str) else dim for dim in entry.dims[1:])
    return (*entry.dims[:1], *rest)


def _given_shape(model: str, entry: OpenInput, shape: Sequence[Any]) -> Shape:
    key = f"model.shapes.{entry.name}={list(shape)!r}"
    if not shape or shape[0] not in (BATCH, -1) or not all(_is_size(size) for size in shape[1:]):
        raise ModelError(
            f"{key} is not a shape. Begin with {BATCH} for the batch and give whole numbers after it."
        )
    if entry.dims is None:
        return (BATCH, *shape[1:])
    agrees = all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(entry.dims[1:], shape[1:], strict=False)
    )
    if len(shape) != len(entry.dims) or not agrees:
        raise ModelError(
            f"{key} contradicts {model!r}, whose file says {_text(entry.dims)}. Give a shape that fits it."
        )
    return (BATCH, *shape[1:])


def _refuse_missing(model: str, filled: Sequence[OpenInput]) -> None:
    """Raise ModelError that asks for all missing sizes at once."""
    wanted = []
    batches = {entry.dims[0] for entry in filled if entry.dims}
    for entry in filled:
        if entry.dims is None:
            wanted.append(f"model.shapes.{entry.name}=[{BATCH}, ...]")
        elif not entry.dims:
            raise ModelError(
                f"Input {entry.name!r} of {model!r} is a single number and has no batch. Export it as a constant."
            )
        elif any(
            dim is None or (isinstance(dim, str) and dim in batches) for dim in entry.dims[1:]
        ):
            sizes = ", ".join(str(dim) if isinstance(dim, int) else "..." for dim in entry.dims[1:])
            wanted.append(f"model.shapes.{entry.name}=[{BATCH}, {sizes}]")
        else:
            wanted.extend(
                f"model.shapes.{dim}=..." for dim in entry.dims[1:] if isinstance(dim, str)
            )
    if wanted:
        raise ModelError(
            f"Model {model!r} has dynamic dimensions whose sizes cannot be guessed. Set {' and '.join(dict.fromkeys(wanted))}."
        )


def _refuse_batches(model: str, inputs: Sequence[OpenInput], filled: Sequence[OpenInput]) -> None:
    """Refuse inputs that do not share one batch: all open, or all fixed to the same number."""
    firsts = {entry.name: entry.dims[0] for entry in filled if entry.dims}
    if len({size for size in firsts.values() if isinstance(size, int)}) == 0:
        return
    if len(set(firsts.values())) > 1:
        odd = next(name for name, size in firsts.items() if isinstance(size, int))
        dims = next(entry.dims for entry in inputs if entry.name == odd)
        raise ModelError(
            f"Input {odd!r} of {model!r} has shape {_text(dims)}, whose first dimension is not the batch of the "
            f"other inputs. Set model.shapes.{odd}=[{BATCH}, ...] if it is, or export that input as a constant."
        )


def _closed(entry: OpenInput) -> tuple[int | str, ...]:
    sizes = [dim for dim in (entry.dims or ())[1:] if isinstance(dim, int)]
    return (BATCH, *sizes)


def _text(dims: Shape | None) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in dims or ())}]"
