"""A results folder that raybench writes to, and what one run writes there.

    <root>/raybench.json                                 version of this layout
    <root>/runs/<run_id>/manifest.json                   what was asked for, and how it ended
    <root>/environment/<run_id>/<environment_id>.parquet
    <root>/{workers,blocks,samples,layers}/<run_id>/<point_id>-t<trial>.parquet
    <root>/trials/<run_id>/<point_id>-t<trial>.parquet   written last: the trial is complete
    <root>/<table>/<run_id>/<segment>.parquet            further trials of a long run, see `journal`
    <root>/runs/<run_id>/<segment>.journal               the newest of them, until they are Parquet
    <root>/{soak,events}/<run_id>/<point_id>-t<trial>-i<interval>.parquet   as each interval ends
    <root>/compact/<table>.parquet                       optional, see `load.compact`
    <root>/.leases/<run_id>.json                         what a driver at work measures, see `leases`

Each driver writes its own run, so no file has two writers and no reader waits. The folder of a
run is its bare id rather than `run_id=<id>`, which pandas would turn into a dictionary column that
it then cannot join with the column of that name in the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raybench.errors import ResultsError
from raybench.experiment import METHOD_VERSION
from raybench.results import leases
from raybench.results.journal import FIRST_FILES, RowJournal, settle
from raybench.results.load import compact, read, uncompacted
from raybench.results.schema import FINAL, SCHEMA_VERSION, SCHEMAS, STATUSES, VERDICTS
from raybench.results.storage import FORMAT_FILE, FORMAT_VERSION, Files, Folder, encode, open_files
from raybench.version import __version__

Row: TypeAlias = Mapping[str, Any]
Rows: TypeAlias = Mapping[str, Any] | Sequence[Row]
"""Columns by name (sequences or arrays of one length), or a mapping a row."""
Key: TypeAlias = tuple[str, int, str | None]
"""(point_id, trial, environment_id): never measured twice."""

FALLBACK_DIRS = ("/dev/shm", "~")
"""Where rows are saved when results.dir and the folder for temporary files are full."""
_RESCUED = "raybench-rescued-"
MANY_FILES = 256
"""Number of files outside the compact one from which a new one is worth its time."""
STATES = ("running", "finished", "interrupted", "failed")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_last_ms = 0


class Store:
    """A results folder, created if it does not exist.

    Attributes:
        warnings: a line on each file that `finals` could not read.

    Raises:
        ResultsError: the path is a file, cannot be written, holds something else, or was written
            by a newer raybench.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.files = open_files(root)
        self.warnings: list[str] = []
        self.files.make()
        if not self.files.check_format():
            _refuse_other_content(self.files)
            _write_format(self.files)

    def start_run(self, manifest: Mapping[str, Any], run_id: str | None = None) -> RunWriter:
        """Start a new run, with a new id where none is given, and write its manifest."""
        return RunWriter(self.files, run_id or ulid(), manifest)

    def claim(self, environment_id: str, trials: Collection[leases.TrialKey]) -> leases.HeldLease:
        """Take the trials that no other driver at work measures, for a new run.

        Runs whose driver was killed are recorded as interrupted, and their rows become Parquet.
        """
        for lease in leases.remove_dead(self.files):
            self._end_manifest(lease.run_id)
        with contextlib.suppress(ResultsError):  # rows are read from journals, too
            settle(self.files, {lease.run_id for lease in leases.at_work(self.files)})
        return leases.claim(self.files, ulid(), environment_id, trials)

    def _end_manifest(self, run_id: str) -> None:
        name = f"runs/{run_id}/manifest.json"
        with contextlib.suppress(OSError, ValueError, TypeError, ResultsError):
            facts = json.loads(self.files.read(name))
            if facts["state"] == "running":
                self.files.write(name, _json({**facts, "state": "interrupted"}))

    def tidy(self) -> None:
        """Compact the tables that resuming and the result table read, once there are many files."""
        if uncompacted(self.files, "trials") > MANY_FILES:
            with contextlib.suppress(ResultsError):  # whoever needs the space reports a full disk
                compact(self.files.root, ("trials", "workers", "environment"))

    def finals(self) -> dict[Key, tuple[str, str | None]]:
        """Return (status, verdict) of every trial that has a final row; the newest one counts."""
        columns = ["started_at", "environment_id", "status", "verdict"]
        rows, self.warnings = read(self.files, "trials", columns)
        rows = rows.sort_by([("run_id", "ascending"), ("started_at", "ascending")])
        return {
            (row["point_id"], row["trial"], row["environment_id"]): (row["status"], row["verdict"])
            for row in rows.to_pylist()
            if row["status"] in FINAL
        }

    def rates(self, environment_id: str) -> dict[tuple[str, int], float]:
        """Return items/s of every measured trial of an environment, by point id and trial."""
        columns = ["started_at", "environment_id", "status", "items_per_s"]
        rows, _ = read(self.files, "trials", columns)
        rows = rows.sort_by([("run_id", "ascending"), ("started_at", "ascending")])
        return {
            (row["point_id"], row["trial"]): row["items_per_s"]
            for row in rows.to_pylist()
            if row["status"] == "ok" and row["environment_id"] == environment_id
        }


class RunWriter:
    """What one driver writes to a results folder.

    Attributes:
        id: ULID, so that later runs sort after earlier ones.
    """

    def __init__(self, files: Files, run_id: str, manifest: Mapping[str, Any]) -> None:
        self.id = run_id
        self._files = files
        self._manifest = {
            "run_id": run_id,
            "state": "running",
            "started_at": _now(),
            "ended_at": None,
            "raybench_version": __version__,
            "method_version": METHOD_VERSION,
            **manifest,
        }
        self._fallback: Files | None = None
        self._journal = RowJournal(files, run_id) if isinstance(files, Folder) else None
        self._trials = 0
        self._write_manifest()

    def write_point(
        self,
        point_id: str,
        trial: int,
        *,
        trials: Row,
        workers: Sequence[Row] = (),
        blocks: Rows = (),
        samples: Rows | None = None,
        layers: Rows = (),
    ) -> None:
        """Write all rows of one trial of a point; they count once the disk has all of them.

        `run_id`, `point_id`, `trial`, the versions and `environment_id` (from `trials`) are filled
        in; missing columns are null, and so is NaN.

        Raises:
            TypeError: a column that the schema lacks, or a value of another type.
            ValueError: a status or verdict that is not in its list, or columns of unequal length.
            ResultsError: the folder cannot be written any more. These and all later rows go to a
                new folder elsewhere, which the message names.
        """
        if not _FILE_NAME.fullmatch(point_id) or trial < 0:
            raise ValueError(f"Point {point_id!r}, trial {trial!r} cannot name a file.")
        for column, allowed in (("status", STATUSES), ("verdict", (None, *VERDICTS))):
            if trials.get(column) not in allowed:
                raise ValueError(f"Column {column!r} of 'trials' is {trials.get(column)!r}.")
        fixed = {
            "run_id": self.id,
            "point_id": point_id,
            "trial": trial,
            "schema_version": SCHEMA_VERSION,
            "environment_id": trials.get("environment_id"),
        }
        given: dict[str, Rows] = {
            "samples": samples or (),
            "layers": layers,
            "blocks": blocks,
            "workers": workers,
            "trials": [{"method_version": METHOD_VERSION, **trials}],
        }
        tables = {name: build(name, rows, fixed) for name, rows in given.items() if len(rows)}
        tables = {name: rows for name, rows in tables.items() if rows.num_rows}
        self._keep(f"{point_id}-t{trial}", tables)
        self._trials += 1

    def write_interval(self, name: str, fixed: Row, tables: Mapping[str, Rows]) -> None:
        """Write rows that count before those of their trial are there; raises as `write_point`."""
        fixed = {"run_id": self.id, "schema_version": SCHEMA_VERSION, **fixed}
        self._keep(name, {t: build(t, rows, fixed) for t, rows in tables.items() if len(rows)})

    def _keep(self, name: str, tables: Mapping[str, pa.Table]) -> None:
        """Write the rows of a trial; to the fallback folder once the results folder has failed."""
        if self._fallback is not None:
            _write_each(self._fallback, self._encoded(name, tables))
            return
        try:
            journalled = self._trials >= FIRST_FILES and "trials" in tables
            if self._journal is not None and journalled:
                self._journal.append(tables)
            else:
                _write_each(self._files, self._encoded(name, tables))
        except ResultsError as error:
            self._fallback = _write_to_fallback(self._encoded(name, tables))
            where = "could not be kept elsewhere either."
            if self._fallback is not None:
                folder = self._fallback.root
                command = self._files.copying.format(folder, self._files.root)
                where = f"are kept; bring them back with: {command}"
            raise ResultsError(f"{error} Rows just measured {where}") from error

    def _encoded(self, name: str, tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
        return {f"{t}/{self.id}/{name}.parquet": encode(rows) for t, rows in tables.items()}

    def write_environment(self, rows: Sequence[Row]) -> None:
        """Write the environment of the measurements, a row for each node and device.

        Raises: TypeError as `write_point`; ValueError for a row without `environment_id`.
        """
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.get("environment_id") or "", []).append(row)
        fixed = {"run_id": self.id, "schema_version": SCHEMA_VERSION}
        for environment_id, group in groups.items():
            if not _FILE_NAME.fullmatch(environment_id):
                raise ValueError(f"Column 'environment_id' of 'environment' is {environment_id!r}.")
            name = f"environment/{self.id}/{environment_id}.parquet"
            self._files.write(name, encode(build("environment", group, fixed)))

    def finish(self, state: str) -> None:
        """Store all rows as Parquet and record how the run ended: finished, interrupted or failed."""
        if state not in STATES:
            raise ValueError(f"Run state {state!r} is none of {STATES}.")
        self._manifest.update(state=state, ended_at=_now())
        try:
            if self._journal is not None:
                self._journal.close()
        finally:
            self._write_manifest()
        if not self._files.check_format():  # removed during the run; the next would refuse the rows
            _write_format(self._files)

    def _write_manifest(self) -> None:
        self._files.write(f"runs/{self.id}/manifest.json", _json(self._manifest))


def _write_each(files: Files, contents: Mapping[str, bytes]) -> None:
    for name, data in contents.items():
        files.write(name, data)


def rescued() -> list[Path]:
    """Return the folders on this machine that hold rows which no results folder could take."""
    parents = dict.fromkeys((tempfile.gettempdir(), *FALLBACK_DIRS))
    return [
        folder
        for parent in parents
        for folder in sorted(Path(parent).expanduser().glob(f"{_RESCUED}*"))
        if folder.is_dir()
    ]


def _write_to_fallback(contents: Mapping[str, bytes]) -> Files | None:
    """Write to a new folder in the first place that has room; None if none has."""
    for parent in (tempfile.gettempdir(), *FALLBACK_DIRS):
        folder = None
        try:
            folder = tempfile.mkdtemp(prefix=_RESCUED, dir=os.path.expanduser(parent))
            files = open_files(folder)
            _write_each(files, contents)
        except (OSError, ResultsError):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)  # the part that had room is no row
            continue
        return files
    return None


def build(table: str, rows: Rows, fixed: Row) -> pa.Table:
    """Return the rows as a table of the schema; `fixed` columns have one value in every row.

    Raises: TypeError, ValueError as `RunWriter.write_point`.
    """
    schema = SCHEMAS[table]
    given = _by_column(rows)
    unknown = sorted(given.keys() - set(schema.names))
    if unknown:
        raise TypeError(f"Table {table!r} has no column {unknown[0]!r}.")
    length = max((len(values) for values in given.values()), default=0)
    given = {**given, **{name: [value] * length for name, value in fixed.items()}}
    columns = [_column(table, field, given.get(field.name), length) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _by_column(rows: Rows) -> Mapping[str, Any]:
    if isinstance(rows, Mapping):
        return rows
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _column(table: str, field: pa.Field, values: Any, length: int) -> pa.Array:
    if values is None:
        return pa.nulls(length, field.type)
    if len(values) != length:
        raise ValueError(
            f"Column {field.name!r} of {table!r} has {len(values)} values, others {length}."
        )
    needed = _type_needed(field.type, values)
    if needed:
        raise TypeError(f"Column {field.name!r} of {table!r} needs {needed}.")
    if pa.types.is_map(field.type):
        values = [v if v is None else list(v.items()) for v in values]
    try:
        return pa.array(values, field.type, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TypeError(
            f"Column {field.name!r} of {table!r} needs {field.type}: {error}."
        ) from error


def _type_needed(kind: pa.DataType, values: Any) -> str | None:
    """Return what the column needs if Arrow would silently change the values."""
    if pa.types.is_map(kind) and not all(v is None or isinstance(v, Mapping) for v in values):
        return "mappings"
    if pa.types.is_timestamp(kind) and any(v and v.tzinfo is None for v in values):
        return "times with a time zone"
    if pa.types.is_list(kind) and any(isinstance(v, str) for v in values):
        return "lists, not text"
    if _is_whole(kind) and _has_fraction(values):
        return f"{kind}, not fractions"
    return None


def _is_whole(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or (pa.types.is_list(kind) and pa.types.is_integer(kind.value_type))
    )


def _has_fraction(values: Any) -> bool:
    """Tell whether a number at any depth is not whole; Arrow would silently truncate it."""
    if hasattr(values, "dtype"):
        values = values[values % 1 != 0].tolist() if values.dtype.kind == "f" else ()
    return any(
        _has_fraction(value) if isinstance(value, (list, tuple)) else _is_fraction(value)
        for value in values
    )


def _is_fraction(value: Any) -> bool:
    return isinstance(value, (float, np.floating)) and not math.isnan(value) and value % 1 != 0


def ulid() -> str:
    """Return a new ULID (48 bits of milliseconds, 80 random bits), larger than earlier ones."""
    global _last_ms
    _last_ms = max(time.time_ns() // 1_000_000, _last_ms + 1)
    value = _last_ms << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[value >> 5 * place & 31] for place in reversed(range(26)))


def _write_format(files: Files) -> None:
    facts = {"format_version": FORMAT_VERSION, "written_by": __version__}
    files.write(FORMAT_FILE, _json(facts))


def _refuse_other_content(files: Files) -> None:
    others = files.names()
    if others:
        raise ResultsError(
            f"Results folder {files.root!r} holds something else ({others[0]!r}) and no "
            f"{FORMAT_FILE}. Choose a new or empty folder with results.dir=PATH."
        )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _json(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=2, ensure_ascii=False, default=str).encode() + b"\n"
