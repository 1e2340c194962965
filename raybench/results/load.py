"""Reading the rows of a results folder as one Arrow table."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from raybench.errors import ConfigError, ResultsError, nearest
from raybench.results.journal import is_segment, open_segments
from raybench.results.schema import SCHEMAS, TABLES
from raybench.results.storage import Files, encode, open_files

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

_NEWEST = b"raybench.newest_ns"
TOGETHER = 200
"""Files to join at a time: each costs memory and time for every column."""


def load(
    root: str | os.PathLike[str], table: str = "trials", *, runs: Sequence[str] | None = None
) -> pa.Table:
    """Return all rows of a table in a results folder, with the columns of the newest schema.

    Columns that a file of an older raybench lacks are null; columns that only a newer one has
    follow at the end. Rows of incomplete trials are left out. Files that are torn or not
    raybench's are skipped with a warning.

    Args:
        root: the results folder.
        table: trials, workers, blocks, samples, layers, soak, events or environment.
        runs: only the rows of these runs; None for all.

    Raises:
        ResultsError: no such folder or table, or no trial in it yet.
    """
    if table not in TABLES:
        raise ResultsError(f"Table {table!r} does not exist. {nearest(table, TABLES)}")
    files = open_files(root)
    _check(files)
    rows, skipped = read(files, table)
    if skipped:
        warnings.warn(_complaint(files, skipped), stacklevel=2)
    if not rows.num_rows and (table == "trials" or not read(files, "trials", ["trial"])[0]):
        raise ResultsError(
            f"Results folder {files.root!r} holds no finished trial. "
            "Run an experiment into it with results.dir=PATH."
        )
    if runs is not None:
        rows = rows.filter(pc.is_in(rows["run_id"], pa.array(list(runs), pa.string())))
    return rows


def compact(
    root: str | os.PathLike[str],
    tables: Iterable[str] = ("trials", "workers", "blocks", "environment"),
) -> None:
    """Write the rows of each table to one file, `<root>/compact/<table>.parquet`.

    Later loads read from it whatever has not changed since, in milliseconds rather than 2 to 6 ms
    a file. The many files stay authoritative: a run that is deleted there is gone. Only if the
    whole folder of a table is gone does its compact file count alone. It may be deleted or written
    again at any time. Segments (`raybench.results.journal`) hold many trials as they are, and are
    left out.
    """
    files = open_files(root)
    _check(files)
    for table in tables:
        newest = max(_single_files(files, table).values(), default=0)
        rows, _ = read(files, table, segments=False)
        if rows.num_rows:
            facts = {**rows.schema.metadata, _NEWEST: str(newest)}
            files.write(f"compact/{table}.parquet", encode(rows.replace_schema_metadata(facts)))


def uncompacted(files: Files, table: str) -> int:
    """Return how many files of a table are at least missing from its compact file."""
    try:
        compacted = files.count(f"compact/{table}.parquet")
    except (OSError, pa.ArrowException):
        compacted = 0
    return len(_single_files(files, table)) - compacted


def _single_files(files: Files, table: str) -> dict[str, int]:
    """Return the files of one trial each, as `Files.listing`."""
    listing = files.listing(table)
    return {name: changed for name, changed in listing.items() if not is_segment(name)}


def read(
    files: Files, table: str, columns: list[str] | None = None, *, segments: bool = True
) -> tuple[pa.Table, list[str]]:
    """Return the rows of a table, and a line on each file that was skipped.

    Args:
        files: the results folder.
        table: to read.
        columns: to read; None for all.
        segments: whether to read the files and journals of many trials, too.
    """
    skipped: list[str] = []
    keys = _key_columns(table)
    wanted = None if columns is None else list(dict.fromkeys([*keys, *columns]))
    target = _target(table, wanted)
    # before the files: a journal that becomes one meanwhile is left out there
    journals = open_segments(files, table) if segments else []
    united = [_chosen(segment.rows, wanted) for segment in journals]
    compacted = _read_compacted(files, table, wanted, skipped)
    listing = files.listing(table) if segments else _single_files(files, table)
    if compacted is not None and not listing:
        return _unite([compacted, *united], target, skipped), skipped
    compacted_names = (
        frozenset[str]() if compacted is None else frozenset(_names(compacted).to_pylist())
    )
    newest = 0 if compacted is None else int(compacted.schema.metadata.get(_NEWEST, 0))
    left_out = {segment.name for segment in journals}
    fresh = [
        name
        for name, changed in listing.items()
        if (name not in compacted_names or changed > newest) and name not in left_out
    ]
    if table in ("workers", "blocks", "samples", "layers") and fresh:
        committed = _committed(files)
        fresh = [name for name in fresh if name in committed]
    if compacted is not None:
        kept = (compacted_names & listing.keys()) - set(fresh)
        if kept != compacted_names:
            names = pa.array(list(kept), pa.string())
            compacted = compacted.filter(pc.is_in(_names(compacted), names))
        united.append(compacted)
    united += _read_fresh(files, table, fresh, wanted, skipped)
    return _unite(united, target, skipped), skipped


def _read_fresh(
    files: Files, table: str, names: Sequence[str], columns: list[str] | None, skipped: list[str]
) -> list[pa.Table]:
    united = []
    for begin in range(0, len(names), TOGETHER):
        parts = files.each(
            lambda name: _read_part(files, table, f"{table}/{name}.parquet", columns, skipped),
            names[begin : begin + TOGETHER],
        )
        present = [part for part in parts if part is not None]
        united.append(_unite(present, _target(table, columns), skipped))
    return united


def _chosen(rows: pa.Table, columns: list[str] | None) -> pa.Table:
    """Return the wanted columns, without those that the rows lack."""
    if columns is None:
        return rows
    return rows.select([name for name in columns if name in rows.schema.names])


def _check(files: Files) -> None:
    kind = files.kind()
    if kind != "folder":
        what = "is a file" if kind == "file" else "does not exist"
        raise ResultsError(
            f"Results folder {files.root!r} {what}. "
            "Give the folder that an experiment wrote, by default results/."
        )
    if not files.check_format() and files.kind("trials") != "folder":
        raise ResultsError(
            f"Folder {files.root!r} is not a results folder: it has no raybench.json. "
            "Give the folder that an experiment wrote, by default results/."
        )


def _key_columns(table: str) -> tuple[str, ...]:
    if table == "environment":
        return ("run_id", "environment_id")
    if table in ("soak", "events"):
        return ("run_id", "point_id", "trial", "interval")
    return ("run_id", "point_id", "trial")


def _names(rows: pa.Table) -> pa.ChunkedArray:
    """Return the name of the file that each row came from, as `Run` writes it."""
    if "point_id" not in rows.schema.names:
        return pc.binary_join_element_wise(rows["run_id"], rows["environment_id"], "/")
    file = pc.binary_join_element_wise(rows["point_id"], rows["trial"].cast(pa.string()), "-t")
    if "interval" in rows.schema.names:
        interval = rows["interval"].cast(pa.string())
        file = pc.binary_join_element_wise(file, interval, "-i")
    return pc.binary_join_element_wise(rows["run_id"], file, "/")


def _committed(files: Files) -> set[str]:
    """Return the names of the trials that were written completely."""
    listing = files.listing("trials")
    if listing:
        return set(listing)
    compacted = _read_compacted(files, "trials", list(_key_columns("trials")), [])
    return set() if compacted is None else set(_names(compacted).to_pylist())


def _read_compacted(
    files: Files, table: str, columns: list[str] | None, skipped: list[str]
) -> pa.Table | None:
    name = f"compact/{table}.parquet"
    if files.kind(name) != "file":
        return None
    return _read_part(files, table, name, columns, skipped)


def _read_part(
    files: Files, table: str, name: str, columns: list[str] | None, skipped: list[str]
) -> pa.Table | None:
    try:
        rows = files.read_table(name, columns)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).split("\n")[0]
        skipped.append(f"{name} cannot be read ({reason})")
        return None
    if (rows.schema.metadata or {}).get(b"raybench.table") != table.encode():
        skipped.append(f"{name} is not a raybench {table} file")
        return None
    return rows


def _target(table: str, columns: list[str] | None) -> pa.Schema:
    schema = SCHEMAS[table]
    if columns is None:
        return schema
    return pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)


def _unite(parts: list[pa.Table], schema: pa.Schema, skipped: list[str]) -> pa.Table:
    """Join parts that different versions wrote."""
    for part in parts:
        if not part.schema.equals(schema):
            for field in part.schema:
                if schema.get_field_index(field.name) < 0:
                    schema = schema.append(field)
    conformed = [rows for part in parts for rows in _conform(part, schema, skipped)]
    if not conformed:
        return pa.Table.from_batches([], schema)  # empty_table() would import pandas
    return pa.concat_tables(conformed).combine_chunks()


def _conform(part: pa.Table, schema: pa.Schema, skipped: list[str]) -> list[pa.Table]:
    """Return the part with the columns of the schema; nothing if a column cannot be cast."""
    if part.schema.equals(schema):
        return [part.replace_schema_metadata(schema.metadata)]
    names = set(part.schema.names)
    columns = []
    for field in schema:
        if field.name not in names:
            columns.append(pa.nulls(part.num_rows, field.type))
            continue
        try:
            columns.append(part[field.name].cast(field.type))
        except pa.ArrowException as error:
            skipped.append(f"a file of run {part['run_id'][0]}: {field.name} cannot be ({error})")
            return []
    return [pa.Table.from_arrays(columns, schema=schema)]


def _complaint(files: Files, skipped: list[str]) -> str:
    shown = "; ".join(skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return f"Left out of {files.root!r}: {shown}{more}."


def select(rows: pa.Table, point_ids: Sequence[str], environment_id: str) -> pa.Table:
    """Return the rows of these points that were measured in this environment."""
    wanted = pc.is_in(rows["point_id"], pa.array(list(point_ids), pa.string()))
    return rows.filter(pc.and_(wanted, pc.equal(rows["environment_id"], environment_id)))


def having(rows: pa.Table, key: str, value: str) -> pa.Table:
    """Return the rows with a value in a column, both as written on the command line.

    Args:
        rows: of any table.
        key: a column, or tags.NAME; `run` stands for the first letters of run_id.
        value: "none" stands for null, "true" and "false" for booleans.

    Raises:
        ConfigError: an unknown column, or a value that no row has.
    """
    columns = [field.name for field in rows.schema if not pa.types.is_nested(field.type)]
    tag = (
        key.removeprefix("tags.") if key.startswith("tags.") and "tags" in rows.column_names else ""
    )
    if key != "run" and not tag and key not in columns:
        raise ConfigError(f"Unknown column {key!r}. {nearest(key, columns)}")
    column = (
        pc.map_lookup(rows["tags"], tag, "first")
        if tag
        else rows["run_id" if key == "run" else key]
    )
    if pa.types.is_boolean(column.type):
        column = pc.if_else(column, "true", "false")
    texts = pc.fill_null(column.cast(pa.string()), "none")
    kept = rows.filter(pc.starts_with(texts, value) if key == "run" else pc.equal(texts, value))
    if not kept.num_rows:
        present = sorted(pc.unique(texts).to_pylist())
        more = f" and {len(present) - 8} more" if len(present) > 8 else ""
        names = ", ".join(present[:8]) or "none"
        raise ConfigError(f"No row has {key}={value}. There are: {names}{more}.")
    return kept
