"""What a file and its user say of the inputs' shapes, read and checked one by one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from raybench.errors import ModelError, nearest
from raybench.models.model import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.models.graph.shape_inference import Shape

_NAME = re.compile(r"(?!-?\d+$)[\w.:/-]+")
"""A symbol that can be a key. Others, such as "?" and "h // 2", are dimensions without a name."""


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

    def at(self, axis: int) -> int | str | None:
        """Return the dimension at a position; None for an input of open rank."""
        return None if self.dims is None else self.dims[axis]


@dataclass(frozen=True)
class ShapeRequest:
    """Inputs of a file and what the user has given for them.

    Attributes:
        model: the model's name, for messages.
        inputs: inputs as the file declares them; a symbol that cannot be a key is None.
        sizes: sizes by symbol, as given.
        written: shapes by input, with `BATCH` at most once and numbers elsewhere.
    """

    model: str
    inputs: tuple[OpenInput, ...]
    sizes: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Shape] = field(default_factory=dict)

    @classmethod
    def read(
        cls, model: str, inputs: Sequence[OpenInput], given: Mapping[str, Any]
    ) -> ShapeRequest:
        """Return a request.

        Raises:
            ModelError: for a shape that is none, or contradicts the file.
        """
        by_name = {entry.name: replace(entry, dims=_nameable(entry.dims)) for entry in inputs}
        written = {}
        for key, value in given.items():
            if _is_list(value) and key not in by_name:
                raise ModelError(
                    f"model.shapes.{key} names no input of {model!r}. {nearest(key, by_name)}"
                )
            if _is_list(value):
                written[key] = _written(model, by_name[key], tuple(value))
        sizes = {key: value for key, value in given.items() if not _is_list(value)}
        return cls(model, tuple(by_name.values()), sizes, written)

    def check_sizes(self, batches: set[str]) -> None:
        """Refuse a size of the batch, or of no dimension, or one that is no size.

        Args:
            batches: symbols that are the batch.

        Raises:
            ModelError: naming the key and what to set instead.
        """
        symbols = {
            dim for entry in self.inputs for dim in (entry.dims or ()) if isinstance(dim, str)
        }
        shapes = {entry.name: entry.dims for entry in self.inputs}
        for key, value in self.sizes.items():
            if key in batches:
                raise ModelError(
                    f"model.shapes.{key} is the batch of {self.model!r}, which the grid sets. Use batch_size={value} instead."
                )
            if key not in symbols and key in shapes:
                raise ModelError(
                    f"model.shapes.{key}={value!r} is no shape of input {key!r}. Set every dimension: "
                    f"{shape_setting(key, shapes[key], 0)}."
                )
            if key not in symbols:
                raise ModelError(
                    f"model.shapes.{key} names no dynamic dimension of {self.model!r}. {nearest(key, symbols - batches)}"
                )
            if not _is_size(value):
                raise ModelError(
                    f"model.shapes.{key}={value!r} is not a size. Give a whole number, 0 or above."
                )


def setting(key: str, value: str) -> str:
    """Return a word for the command line, in quotes where a shell needs them."""
    return shlex.quote(f"model.{key}={value}")


def shape_setting(name: str, dims: Shape | None, batch_axis: int | None) -> str:
    """Return the word that sets the shape of an input, with "..." for what is not known.

    Args:
        name: of the input.
        dims: what is known; None if the rank is open.
        batch_axis: where to write N; None for nowhere.
    """
    if dims is None:
        return setting(f"shapes.{name}", f"[{BATCH}, ...]")
    sizes = [str(dim) if isinstance(dim, int) else "..." for dim in dims]
    if batch_axis is not None:
        sizes[batch_axis] = BATCH
    return setting(f"shapes.{name}", f"[{', '.join(sizes)}]")


def text(dims: Shape | None) -> str:
    """Return dimensions as a message shows them."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in dims or ())}]"


def _nameable(dims: Shape | None) -> Shape | None:
    if dims is None:
        return None
    return tuple(None if isinstance(dim, str) and not _NAME.fullmatch(dim) else dim for dim in dims)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _written(model: str, entry: OpenInput, shape: tuple[Any, ...]) -> Shape:
    """Return a shape that the user has written for an input."""
    dims: Shape = tuple(BATCH if size in (BATCH, -1) else size for size in shape)
    key = f"model.shapes.{entry.name}={text(dims)}"
    if not all(size == BATCH or _is_size(size) for size in dims) or dims.count(BATCH) > 1:
        raise ModelError(
            f"{key} is not a shape. Write {BATCH} where the batch stands, once, and whole numbers elsewhere."
        )
    if entry.dims is None:
        return dims
    agrees = all(
        not isinstance(dim, int) or size in (dim, BATCH)
        for dim, size in zip(entry.dims, dims, strict=False)
    )
    if len(dims) != len(entry.dims) or not agrees:
        raise ModelError(
            f"{key} contradicts {model!r}, whose file says {text(entry.dims)}. Give a shape that fits it."
        )
    return dims
