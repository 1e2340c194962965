"""Conditions on columns, such as `latency_p99_ms<10 and batch_size>=8`."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from typing_extensions import override

from raybench.analysis.columns import floats
from raybench.errors import ConfigError, nearest
from raybench.results.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.analysis.columns import Floats

SYNONYMS = {"items_per_joule": "items_per_j", "joules_per_item": "j_per_item"}
"""Names that may be written for a column of `trials`."""
_OPERATORS = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
    "=": operator.eq,
}  # fmt: skip
_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|<|>|=)\s*(\S+)\s*")
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Condition:
    """A bound on a column.

    Attributes:
        column: of `trials`, a number.
        symbol: <, <=, >, >= or =.
        bound: in the unit of the column.
    """

    column: str
    symbol: str
    bound: float

    def met(self, values: Floats) -> bool:
        """Return whether every value meets the bound; NaN, which is unknown, does not."""
        return bool(len(values)) and bool(np.all(_OPERATORS[self.symbol](values, self.bound)))

    @override
    def __str__(self) -> str:
        """Return the condition as it can be written again."""
        return f"{self.column}{self.symbol}{self.bound:.10g}"


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Return the conditions of `COLUMN OPERATOR NUMBER`, joined by `and`.

    Raises:
        ConfigError: for anything else, or a column that `trials` does not have as a number.
    """
    return tuple(_condition(part, text) for part in _AND.split(text.strip()))


def _condition(part: str, text: str) -> Condition:
    match = _CONDITION.fullmatch(part)
    bound = _number(match[3]) if match else None
    if match is None or bound is None:
        raise ConfigError(
            f"where={text!r} is not understood at {part!r}. Write a column, one of < <= > >= = and a "
            'number, joined by and: where="latency_p99_ms<10 and batch_size>=8".'
        )
    return Condition(numeric_column(match[1]), match[2].replace("==", "="), bound)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def numeric_column(name: str) -> str:
    """Return the column of `trials` that a name or a synonym of it stands for.

    Raises:
        ConfigError: for a column that there is not, or that holds no numbers.
    """
    column = SYNONYMS.get(name, name)
    schema = SCHEMAS["trials"]
    if column not in schema.names:
        raise ConfigError(f"Unknown column {name!r}. {nearest(name, schema.names)}")
    kind = schema.field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ConfigError(
            f"Column {name!r} holds no numbers, so it has no bound. Choose its rows with a filter, "
            f"as in raybench show results:{name}=VALUE."
        )
    return column


def values_of(trials: pa.Table, column: str, rows: Iterable[int]) -> Floats:
    """Return a column in some rows, as floats; NaN where it is unknown or not there at all."""
    places = list(rows)
    if column not in trials.column_names:
        return np.full(len(places), np.nan)
    return floats(pa.chunked_array([trials[column].take(pa.array(places)).combine_chunks()]))
