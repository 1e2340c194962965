"""Answers as Arrow tables: a row for each dataclass, nested ones spread over columns."""

from __future__ import annotations

import types
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

from raybench.analysis.estimate import Estimate
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.results.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_BOUNDS = {"value": "", "lo": "_lo", "hi": "_hi"}
"""Attributes of an estimate, with what they add to the name of its column."""


def as_table(kind: type[Any], items: Iterable[Any]) -> pa.Table:
    """Return the items, all of one dataclass, as rows.

    A nested dataclass becomes its own columns, without a prefix; an estimate becomes the columns
    `name`, `name_lo` and `name_hi`; a tuple becomes a list. A column that `trials` also has keeps
    its type, unit and description from there.
    """
    paths = _paths(kind)
    rows = list(items)
    columns = []
    for path, column in paths:
        values = rows
        for name in path:
            values = [getattr(value, name) for value in values]
        if pa.types.is_list(column.type):
            values = [None if value is None else list(value) for value in values]
        columns.append(pa.array(values, column.type))
    return pa.Table.from_arrays(columns, schema=pa.schema([column for _, column in paths]))


@dataclass(frozen=True)
class _CurveFacts:
    series: Series
    workers: int | None


def curves_as_table(kind: type[Any], curves: Sequence[Any]) -> pa.Table:
    """Return a row for each point of some curves, with the columns of its curve's series.

    A factor that a curve goes along is a column of the points, and stands once.

    Args:
        kind: dataclass of the points.
        curves: each with a series, workers, and points.
    """
    facts = [_CurveFacts(curve.series, curve.workers) for curve in curves for _ in curve.points]
    points = as_table(kind, [point for curve in curves for point in curve.points])
    rows = as_table(_CurveFacts, facts)
    rows = rows.drop_columns([name for name in points.column_names if name in rows.column_names])
    return pa.Table.from_arrays(
        [*rows.columns, *points.columns], schema=pa.schema([*rows.schema, *points.schema])
    )


def as_dict(item: Any) -> dict[str, Any]:
    """Return a dataclass as nested dictionaries and lists, its estimates as three entries each."""
    entries: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Estimate):
            entries |= {field.name + end: getattr(value, part) for part, end in _BOUNDS.items()}
        else:
            entries[field.name] = _plain(value)
    return entries


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return as_dict(value)
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _paths(kind: type[Any]) -> list[tuple[tuple[str, ...], pa.Field]]:
    """Return the attribute path of each column with its Arrow field."""
    hints = get_type_hints(kind)
    paths: list[tuple[tuple[str, ...], pa.Field]] = []
    for field in fields(kind):
        inner = _without_none(hints[field.name])
        if inner is Estimate:
            paths += [
                ((field.name, part), _column(field.name + end, float))
                for part, end in _BOUNDS.items()
            ]
        elif is_dataclass(inner) and isinstance(inner, type):
            paths += [((field.name, *path), column) for path, column in _paths(inner)]
        else:
            paths.append(((field.name,), _column(field.name, inner)))
    return paths


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [part for part in get_args(hint) if part is not type(None)]
    return hint


def _column(name: str, hint: Any) -> pa.Field:
    is_list = get_origin(hint) is tuple
    own = pa.list_(_ARROW[get_args(hint)[0]]) if is_list else _ARROW[hint]
    stored = SCHEMAS["trials"]
    if name in stored.names and _kind(stored.field(name).type) == _kind(own):
        return stored.field(name)
    return pa.field(name, own)  # the name means something else in `trials`


def _kind(column: pa.DataType) -> str:
    tests = (pa.types.is_integer, pa.types.is_floating)
    return next((test.__name__ for test in tests if test(column)), str(column))
