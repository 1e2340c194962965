"""The journal of a run: its newest trials, appended to one file until they become Parquet.

    <root>/runs/<run_id>/<segment>.journal             trials that are not Parquet yet
    <root>/<table>/<run_id>/<segment>.parquet          the same trials, once there are enough

A file of its own for each trial and table costs tens of milliseconds to write and several to read, so
only the first trials of a run are stored that way. A later trial is one frame of the journal: all of its
tables in Arrow's format, with a length and a checksum, flushed to the disk before the trial counts. The
frame that a crash cut off is passed over. The journal of a segment counts until the segment of `trials`
is there, which is written last. An object store cannot append, so there each trial stays a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from raybench.errors import ResultsError
from raybench.results.schema import SCHEMAS
from raybench.results.storage import Files, Folder, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

FIRST_FILES = 16
"""Trials of a run that are files of their own, so that a short run is Parquet from its first row on."""
SEGMENT_TRIALS = 1024
"""Fewest trials of a segment, unless they are large or the run ends."""
GROWTH = 16
"""A segment has this part of the trials before it, so that segments stay few however long a run is."""
SEGMENT_BYTES = 64 << 20
"""A journal of this size becomes a segment, however few its trials are: it is read into memory."""
_HEADER = struct.Struct("<4sIQQ")
"""Magic, checksum of the body, its length, and that of its table of contents."""
_MAGIC = b"RBJ1"
_ALIGNMENT = 64
_SEGMENT = re.compile(r"segment-\d{4,}")


class OpenSegment(NamedTuple):
    """The rows of a journal that are not Parquet yet.

    Attributes:
        name: RUN/SEGMENT, which its Parquet file will have.
        rows: of one table.
    """

    name: str
    rows: pa.Table


def is_segment(name: str) -> bool:
    """Tell whether a file of a table, RUN/FILE, holds many trials."""
    return bool(_SEGMENT.fullmatch(name.rpartition("/")[2]))


class RowJournal:
    """What one driver appends to; not for several threads.

    Args:
        folder: the results folder.
        run_id: of the run.
    """

    def __init__(self, folder: Folder, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self._segment = 0
        self._handle: int | None = None
        self._trials = 0
        self._bytes = 0
        self._earlier = 0

    def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Append the rows of a trial; they are on the disk afterwards.

        Raises:
            ResultsError: the folder cannot be written; the trial is not in the journal.
        """
        path = self._path
        try:
            if self._handle is not None and not _is_open_at(self._handle, path):
                self.close()  # another driver took this one for dead and stored its rows
            if self._handle is None:
                self._open()
            parts = [(name, "rows", batch.serialize()) for name, rows in tables.items()
                     for batch in rows.combine_chunks().to_batches()]  # fmt: skip
            self._write(_frame(parts))
        except OSError as error:
            raise ResultsError(
                f"Results file {str(path)!r} cannot be written: {error.strerror or error}. "
                "Free space or rights there, or choose another folder with results.dir=PATH."
            ) from error
        self._trials += 1
        enough = self._trials >= max(SEGMENT_TRIALS, self._earlier // GROWTH)
        if enough or self._bytes >= SEGMENT_BYTES:
            with contextlib.suppress(ResultsError):  # the rows are safe; tried again at the next
                self.close()

    def close(self) -> None:
        """Store what has been appended as Parquet; raises ResultsError if that cannot be written."""
        if self._handle is None:
            return
        if _is_open_at(self._handle, self._path):
            _store_segment(self._folder, f"{self._run_id}/{self._name}")
        os.close(self._handle)
        self._handle = None
        self._earlier += self._trials
        self._segment += 1

    @property
    def _name(self) -> str:
        return f"segment-{self._segment:04}"

    @property
    def _path(self) -> Path:
        return Path(self._folder.root, "runs", self._run_id, f"{self._name}.journal")

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._handle = os.open(self._path, flags, 0o666)
        self._trials = self._bytes = 0
        schemas = [(name, "schema", schema.serialize()) for name, schema in SCHEMAS.items()]
        self._write(_frame(schemas))
        self._folder.flush(f"runs/{self._run_id}")

    def _write(self, frame: bytes) -> None:
        """Append a frame as a whole and flush it, or leave the file as it was."""
        assert self._handle is not None
        try:
            left = memoryview(frame)
            while left:
                left = left[os.write(self._handle, left) :]
            os.fsync(self._handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._bytes)
            raise
        self._bytes += len(frame)


def open_segments(files: Files, table: str) -> list[OpenSegment]:
    """Return the rows of a table that are in journals only.

    Journals are read before the segments are listed: one that becomes a segment meanwhile is in the
    later of both.
    """
    found = [(name, _read(files, name)) for name in _journals(files)]
    return [
        OpenSegment(name, tables[table])
        for name, tables in found
        if table in tables and not _is_stored(files, name)
    ]


def settle(files: Files, at_work: Collection[str] = ()) -> None:
    """Store the journals of runs whose driver was killed as Parquet.

    Args:
        files: the results folder.
        at_work: ids of runs that still write theirs.
    """
    for name in _journals(files):
        if name.partition("/")[0] not in at_work:
            _store_segment(files, name)


def _store_segment(files: Files, name: str) -> None:
    """Write the tables of a journal as Parquet, `trials` last, and remove it."""
    if not _is_stored(files, name):
        tables = _read(files, name)
        order = sorted(tables, key=lambda table: table == "trials")
        for table in order:
            files.write(f"{table}/{name}.parquet", encode(tables[table]))
    with contextlib.suppress(OSError):
        os.unlink(f"{files.base}/runs/{name}.journal")


def _is_stored(files: Files, name: str) -> bool:
    return files.kind(f"trials/{name}.parquet") == "file"


def _journals(files: Files) -> list[str]:
    """Return the journals that there are, as RUN/SEGMENT."""
    if not isinstance(files, Folder):
        return []
    below = Path(files.base, "runs")
    found = below.glob("*/segment-*.journal")
    return sorted(f"{path.parent.name}/{path.stem}" for path in found)


def _read(files: Files, name: str) -> dict[str, pa.Table]:
    """Return the rows of a journal by table; nothing if it was removed meanwhile."""
    try:
        content = pa.py_buffer(files.read(f"runs/{name}.journal"))
    except FileNotFoundError:
        return {}
    schemas: dict[str, pa.Schema] = {}
    batches: dict[str, list[pa.RecordBatch]] = {}
    for table, kind, part in _parts(content):
        if kind == "schema":
            schemas[table] = pa.ipc.read_schema(part)
        else:
            batches.setdefault(table, []).append(pa.ipc.read_record_batch(part, schemas[table]))
    return {table: pa.Table.from_batches(rows) for table, rows in batches.items()}


def _frame(parts: Sequence[tuple[str, str, pa.Buffer]]) -> bytes:
    """Return the bytes of a frame: header, table of contents, and the parts."""
    contents = json.dumps([[table, kind, part.size] for table, kind, part in parts]).encode()
    places = _padded(contents, _HEADER.size)
    body = b"".join([places, *(_padded(part.to_pybytes()) for _, _, part in parts)])
    return _HEADER.pack(_MAGIC, zlib.crc32(body), len(body), len(contents)) + body


def _padded(data: bytes, before: int = 0) -> bytes:
    """Return the bytes with zeros up to where Arrow wants the next buffer to begin."""
    return data + bytes(-(before + len(data)) % _ALIGNMENT)


def _parts(content: pa.Buffer) -> Iterator[tuple[str, str, pa.Buffer]]:
    """Yield table, kind and bytes of the parts of all whole frames; a torn one was never counted."""
    view, at = memoryview(content), 0
    while at + _HEADER.size <= len(view):
        magic, checksum, length, contents = _HEADER.unpack_from(view, at)
        begin = at + _HEADER.size
        body = view[begin : begin + length]
        if magic != _MAGIC or len(body) != length or zlib.crc32(body) != checksum:
            return
        at = begin + length
        begin += contents + -(_HEADER.size + contents) % _ALIGNMENT
        for table, kind, size in json.loads(bytes(body[:contents])):
            yield table, kind, content.slice(begin, size)
            begin += size + -size % _ALIGNMENT


def _is_open_at(handle: int, path: Path) -> bool:
    """Tell whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False
