"""Frame: dataclasses as an Arrow table, a row each; nested ones become columns of their own."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from raybench.results.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def as_table(kind: type[Any], items: Iterable[Any]) -> pa.Table:
    """The items, all of one dataclass, as rows.

    A field that holds a dataclass becomes that one's columns, without prefix; tuples become lists.
    Columns that stand in `trials` with such values have its type, unit and description.
    """
    paths = _paths(kind)
    rows = list(items)
    columns = []
    for path, field in paths:
        values = rows
        for name in path:
            values = [getattr(value, name) for value in values]
        if pa.types.is_list(field.type):
            values = [None if value is None else list(value) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=pa.schema([field for _, field in paths]))


def _paths(kind: type[Any]) -> tuple[tuple[tuple[str, ...], pa.Field], ...]:
    """Attribute paths of the columns, with their Arrow fields."""
    hints = get_type_hints(kind)
    found: list[tuple[tuple[str, ...], pa.Field]] = []
    for field in fields(kind):
        inner = _bare(hints[field.name])
        if is_dataclass(inner) and isinstance(inner, type):
            found += [((field.name, *path), column) for path, column in _paths(inner)]
        else:
            found.append(((field.name,), _column(field.name, inner)))
    return tuple(found)


def _bare(hint: Any) -> Any:
    """The type without its None."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [part for part in get_args(hint) if part is not type(None)]
    return hint


def _column(name: str, hint: Any) -> pa.Field:
    several = get_origin(hint) is tuple
    own = pa.list_(_ARROW[get_args(hint)[0]]) if several else _ARROW[hint]
    stored = SCHEMAS["trials"]
    if name in stored.names and _kind(stored.field(name).type) == _kind(own):
        return stored.field(name)
    return pa.field(name, own)  # a name that means something else there keeps its own type


def _kind(column: pa.DataType) -> str:
    tests = (pa.types.is_integer, pa.types.is_floating)
    return next((test.__name__ for test in tests if test(column)), str(column))
