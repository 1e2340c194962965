"""Arrow columns as numpy arrays, and rows numbered by what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def codes(column: pa.ChunkedArray) -> Ints:
    """Number the different values of a column from 0; null counts as a value."""
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # a table without rows
        return np.zeros(0, dtype=np.int64)
    return np.asarray(encoded.indices.to_numpy(), dtype=np.int64)


def fold(columns: Sequence[Ints]) -> Ints:
    """Number the different combinations of values over several columns of codes."""
    folded: Ints = columns[0]
    for column in columns[1:]:
        if column.any():
            pairs = folded * (int(column.max()) + 1) + column
            folded = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return folded


def floats(column: pa.ChunkedArray) -> Floats:
    """Return the column as floats, null as NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def mask(column: pa.ChunkedArray) -> Bools:
    """Return the column as booleans, null as false."""
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=np.bool_)


def none_for_nan(values: Floats) -> list[float | None]:
    """Return the values as a list, NaN as None."""
    return [None if value != value else value for value in values.tolist()]
