"""Several results folders read as one, and what is odd about them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from raybench.errors import ResultsError
from raybench.results.load import load
from raybench.results.storage import is_address

if TYPE_CHECKING:
    from collections.abc import Sequence

_TABLES = ("trials", "workers", "blocks", "environment")


@dataclass(frozen=True)
class Source:
    """Rows of all folders together.

    Attributes:
        folders: as they were given, without repeats.
        notes: what could not be read or does not fit together, a sentence each.
    """

    folders: tuple[str, ...]
    trials: pa.Table
    workers: pa.Table
    blocks: pa.Table
    environment: pa.Table
    notes: tuple[str, ...]


def read_folders(folders: Sequence[str]) -> Source:
    """The rows of all folders.

    Raises:
        ResultsError: none of the folders holds a finished trial; the words are those of the first.
    """
    unique: dict[str, str] = {}
    for folder in folders:
        unique.setdefault(folder if is_address(folder) else os.path.realpath(folder), folder)
    notes: list[str] = []
    read_or_refused = [_folder(folder, notes) for folder in unique.values()]
    refused = [found for found in read_or_refused if isinstance(found, ResultsError)]
    good = [found for found in read_or_refused if not isinstance(found, ResultsError)]
    if not good:
        raise refused[0]
    notes += [str(error) for error in refused]
    good = _each_run_once(good, notes)
    whole = {name: _together([tables[name] for tables in good]) for name in _TABLES}
    return Source(tuple(unique.values()), **whole, notes=(*notes, *_versions(whole["trials"])))


def _folder(folder: str, notes: list[str]) -> dict[str, pa.Table] | ResultsError:
    """All tables of a folder, or why there are none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = {name: load(folder, name) for name in _TABLES}
        except ResultsError as error:
            return error
    notes += [str(warning.message) for warning in caught]
    return found


def _each_run_once(
    good: Sequence[dict[str, pa.Table]], notes: list[str]
) -> list[dict[str, pa.Table]]:
    """Without the runs that an earlier folder has already: a copy is no second measurement."""
    seen: set[str] = set()
    kept = []
    for tables in good:
        runs = set(pc.unique(tables["trials"]["run_id"]).to_pylist())
        again = pa.array(sorted(runs & seen), pa.string())
        if len(again):
            notes.append(
                f"{len(again)} of {len(runs)} runs of a folder stand in an earlier one too; those "
                "of the first count."
            )
        kept.append(
            {name: t.filter(pc.invert(pc.is_in(t["run_id"], again))) for name, t in tables.items()}
        )
        seen |= runs
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
        found = sorted(v for v in pc.unique(trials[column]).to_pylist() if v is not None)
        if len(found) > 1:
            name = column.replace("_", " ")
            notes.append(f"Rows of {name}s {', '.join(map(str, found))}: {meaning}.")
    return notes
