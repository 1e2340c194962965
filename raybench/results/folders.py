"""Several results folders read as one."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from raybench.errors import ResultsError
from raybench.results.load import load
from raybench.results.schema import SCHEMAS
from raybench.results.storage import is_address
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_TABLES = ("trials", "workers", "blocks", "layers", "environment")


@dataclass(frozen=True)
class ResultTables:
    """The rows of all folders together.

    Attributes:
        folders: as given, without duplicates.
        notes: what could not be read or does not fit together, a sentence each.
    """

    folders: tuple[str, ...]
    trials: pa.Table
    workers: pa.Table
    blocks: pa.Table
    layers: pa.Table
    environment: pa.Table
    notes: tuple[str, ...]


def read_folders(folders: Sequence[str], tables: Collection[str] = _TABLES) -> ResultTables:
    """Return the rows of all folders.

    Args:
        folders: as experiments wrote them.
        tables: those to read; the others stay empty.

    Raises:
        ResultsError: none of the folders holds a finished trial; the message is that of the first.
    """
    unique: dict[str, str] = {}
    for folder in folders:
        unique.setdefault(folder if is_address(folder) else os.path.realpath(folder), folder)
    notes: list[str] = []
    outcomes = [_read_folder(folder, tables, notes) for folder in unique.values()]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ResultsError)]
    good = [outcome for outcome in outcomes if not isinstance(outcome, ResultsError)]
    if not good:
        raise refused[0]
    notes += [str(error) for error in refused]
    good = _each_run_once(good, notes)
    whole = {name: _together([tables[name] for tables in good]) for name in _TABLES}
    return ResultTables(
        tuple(unique.values()), **whole, notes=(*notes, *_versions(whole["trials"]))
    )


def _read_folder(
    folder: str, wanted: Collection[str], notes: list[str]
) -> dict[str, pa.Table] | ResultsError:
    """Return the tables of a folder, or why there are none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tables = {
                name: load(folder, name)
                if name in wanted
                else pa.Table.from_batches([], SCHEMAS[name])
                for name in _TABLES
            }
        except ResultsError as error:
            return error
    notes += [str(warning.message) for warning in caught]
    return tables


def _each_run_once(
    good: Sequence[dict[str, pa.Table]], notes: list[str]
) -> list[dict[str, pa.Table]]:
    """Drop runs that an earlier folder also has: a copy is no second measurement."""
    earlier: set[str] = set()
    kept = []
    for tables in good:
        runs = set(pc.unique(tables["trials"]["run_id"]).to_pylist())
        copies = pa.array(sorted(runs & earlier), pa.string())
        if len(copies):
            notes.append(
                f"{len(copies)} of {counted(len(runs), 'run')} of a folder "
                f"{agreeing(len(copies), 'stands', 'stand')} in an earlier one too; those of the "
                "first count."
            )
        kept.append(
            {name: t.filter(pc.invert(pc.is_in(t["run_id"], copies))) for name, t in tables.items()}
        )
        earlier |= runs
    return kept


def _together(parts: list[pa.Table]) -> pa.Table:
    plain = [part.replace_schema_metadata(None) for part in parts]
    return pa.concat_tables(plain, promote_options="permissive")


def _versions(trials: pa.Table) -> list[str]:
    notes = []
    for column, meaning in (
        ("schema_version", "columns that the older ones lack are empty"),
        ("method_version", "they were measured by different rules and are not held together"),
    ):
        versions = sorted(v for v in pc.unique(trials[column]).to_pylist() if v is not None)
        if len(versions) > 1:
            name = column.replace("_", " ")
            notes.append(f"Rows of {name}s {', '.join(map(str, versions))}: {meaning}.")
    return notes
