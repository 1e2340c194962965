"""The files of a results folder, on a disk or in an object store.

Nothing else touches storage. Names are relative to the root and use "/"; names that start with
"." or "_" are ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from typing_extensions import override

from raybench.errors import ResultsError
from raybench.paths import sync_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CUT_OFF_S = 3600.0
"""A temporary file of this age is of a process that was killed."""
FORMAT_FILE = "raybench.json"
FORMAT_VERSION = 1
"""Version of the layout of the folder; the schema of the rows has its own."""
REQUESTS = 16
"""Objects to read at the same time; each request takes tens of milliseconds."""
_CHOOSE_ANOTHER = "Choose another folder with results.dir=PATH."
_URI = re.compile(r"(s3|gs)://")

T = TypeVar("T")
R = TypeVar("R")

_MANY = 10_000
"""Rows of a file above which threads pay off."""


def is_address(root: str) -> bool:
    """Tell whether a results folder is named by an address rather than a path."""
    return "://" in root.partition("?")[0]


def open_files(root: str | os.PathLike[str]) -> Files:
    """Return the files below a path, s3://bucket/path or gs://bucket/path.

    Raises:
        ResultsError: an unknown kind of store, or an address that cannot be read.
    """
    text = os.fspath(root)
    if _URI.match(text):
        return Bucket(text)
    if is_address(text):
        raise ResultsError(f"results.dir={text!r}: rows go to a folder, to s3:// or to gs://.")
    return Folder(text)


class Files(ABC):
    """A results folder.

    Attributes:
        root: the path or address to show to the user.
        copying: the command that copies a folder into it, with a place for either.
        filesystem: that the files are in.
        base: path of the root in it.
    """

    copying = "cp -r {}/. {}/"
    _cannot_read = "Get the right to read there, or give another folder."

    def __init__(self, root: str, store: pafs.FileSystem, base: str) -> None:
        self.root = root
        self.filesystem = store
        self.base = base

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}" if name else self.base

    @contextlib.contextmanager
    def _asking(self, what: str, remedy: str) -> Iterator[None]:
        """Raise errors of the storage as a ResultsError; FileNotFoundError passes through."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(
                f"Results folder {self.root!r} cannot be {what}: {self._reason(error)}. {remedy}"
            ) from error

    def _reason(self, error: BaseException) -> str:
        return _one_line(error)

    def kind(self, name: str = "") -> Literal["file", "folder"] | None:
        """Return what there is under a name, if anything."""
        with self._asking("read", self._cannot_read):
            kind = self.filesystem.get_file_info(self._path(name)).type
        return {pafs.FileType.File: "file", pafs.FileType.Directory: "folder"}.get(kind)  # type: ignore[return-value]

    def read(self, name: str) -> bytes:
        """Return all bytes of a file; raises FileNotFoundError if there is none."""
        with (
            self._asking("read", self._cannot_read),
            self.filesystem.open_input_stream(self._path(name)) as stream,
        ):
            data: bytes = stream.read()
            return data

    @abstractmethod
    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return the rows of a Parquet file with its metadata, without columns that it lacks.

        Raises:
            OSError, pyarrow.ArrowException: the file is torn or not Parquet.
        """

    def count(self, name: str) -> int:
        """Return the number of rows of a Parquet file; raises as `read_table`."""
        with self.filesystem.open_input_file(self._path(name)) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    def listing(self, folder: str) -> dict[str, int]:
        """Return the Parquet files at any depth, without hidden ones.

        Returns:
            Name without suffix -> change time in ns.
        """
        below = self._path(folder)
        changed = {}
        for entry in self._entries(below, recursive=True):
            name = entry.path.removeprefix(f"{below}/")
            hidden = any(part.startswith((".", "_")) for part in name.split("/"))
            if entry.type is pafs.FileType.File and name.endswith(".parquet") and not hidden:
                changed[name.removesuffix(".parquet")] = int(entry.mtime_ns or 0)
        return dict(sorted(changed.items()))

    def names(self) -> list[str]:
        """Return the names at the root, without hidden ones."""
        entries = self._entries(self.base, recursive=False)
        names = (entry.path.rpartition("/")[2] for entry in entries)
        return sorted(name for name in names if name and not name.startswith("."))

    def _entries(self, path: str, *, recursive: bool) -> list[pafs.FileInfo]:
        wanted = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
        with (
            self._asking("read", self._cannot_read),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
        ):
            return list(self.filesystem.get_file_info(wanted))
        return []

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: after a crash it is complete, or as it was before."""

    @abstractmethod
    def make(self) -> None:
        """Create the root if necessary; raises ResultsError if it cannot be written."""

    def each(self, read: Callable[[T], R], names: Sequence[T]) -> list[R]:
        """Read many files, one after the other or at the same time as suits the storage."""
        return [read(name) for name in names]

    def check_format(self) -> bool:
        """Tell whether the folder is raybench's; raises ResultsError if a newer one wrote it."""
        try:
            facts = json.loads(self.read(FORMAT_FILE))
            version = int(facts["format_version"])
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ResultsError(
                f"Results folder {self.root!r} has a {FORMAT_FILE} that cannot be read. "
                "Choose another folder, or delete that file when the rest is raybench's."
            ) from error
        if version > FORMAT_VERSION:
            raise ResultsError(
                f"Results folder {self.root!r} has format version {version}, newer than "
                f"{FORMAT_VERSION}, the newest that this raybench knows. Update raybench, or "
                "choose another folder."
            )
        return True


class Folder(Files):
    """On a local or mounted disk."""

    def __init__(self, root: str) -> None:
        self._folder = Path(root).expanduser().absolute()
        path = str(self._folder)
        super().__init__(path, pafs.LocalFileSystem(), path)

    @override
    def _reason(self, error: BaseException) -> str:
        number = getattr(error, "errno", None)  # pyarrow adds the path and more to the message
        return os.strerror(number) if number else _one_line(error)

    @override
    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        # one file at a time, ParquetFile, no threads: for one-row files 2 to 4 times as fast as
        # a dataset, pq.read_table or a pool (benchmarked at 2000 files)
        with pq.ParquetFile(self._path(name), memory_map=True) as file:
            return file.read(columns=columns, use_threads=file.metadata.num_rows > _MANY)

    @override
    def listing(self, folder: str) -> dict[str, int]:
        changed: dict[str, int] = {}
        self._list(self._path(folder), "", changed)
        return dict(sorted(changed.items()))

    def _list(self, folder: str, prefix: str, changed: dict[str, int]) -> None:
        for entry in self._scan(folder):
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                self._list(entry.path, f"{prefix}{entry.name}/", changed)
            elif entry.name.endswith(".parquet"):
                with contextlib.suppress(FileNotFoundError):
                    name = prefix + entry.name.removesuffix(".parquet")
                    changed[name] = entry.stat().st_mtime_ns

    def unfinished(self) -> list[Path]:
        """Return the temporary files of writes that were cut off; a write takes milliseconds."""
        oldest = time.time() - _CUT_OFF_S
        found = []
        for entry in self._scan(self.root):
            if entry.name.startswith(".tmp-"):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime < oldest:
                        found.append(Path(entry.path))
        return sorted(found)

    @override
    def names(self) -> list[str]:
        return sorted(e.name for e in self._scan(self.root) if not e.name.startswith("."))

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        """Return the entries of a folder; pyarrow's listing fails on names that are not UTF-8."""
        with (
            self._asking("read", self._cannot_read),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
        ):
            return list(os.scandir(folder))
        return []

    @override
    def write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not beside it: polars refuses to scan the folder of a table that holds a leftover
            write_atomically(path, data, durable=True, temporary_dir=self._folder)
        except OSError as error:
            raise ResultsError(
                f"Results file {str(path)!r} cannot be written: {error.strerror or error}. "
                "Free space or rights there, or choose another folder with results.dir=PATH."
            ) from error

    def flush(self, folder: str) -> None:
        """Return when the disk has the names in a folder."""
        sync_folder(self._folder / folder)

    @override
    def make(self) -> None:
        if os.path.exists(self.root) and not os.path.isdir(self.root):  # these never raise
            raise ResultsError(f"Results folder {self.root!r} is a file. {_CHOOSE_ANOTHER}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
            probe.touch()  # root may write where the mode forbids it, and not on a read-only disk
            probe.unlink()
        except OSError as error:
            raise ResultsError(
                f"Results folder {self.root!r} cannot be written: {self._reason(error)}. "
                f"{_CHOOSE_ANOTHER}"
            ) from error
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise ResultsError(f"Results folder {self.root!r} cannot be written. {_CHOOSE_ANOTHER}")


class Bucket(Files):
    """In an object store: s3://bucket/path or gs://bucket/path.

    An object appears whole or not at all, so a write needs no temporary file. Access follows the
    store's usual variables and files (AWS_PROFILE, AWS_ENDPOINT_URL,
    GOOGLE_APPLICATION_CREDENTIALS) and the options in pyarrow's addresses
    (`s3://bucket/path?region=eu-west-1`).
    """

    _cannot_read = (
        "Check the name, the rights and the network, or choose another folder with "
        "results.dir=PATH."
    )

    def __init__(self, root: str) -> None:
        try:
            store, path = pafs.FileSystem.from_uri(root)
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(
                f"results.dir={root!r} cannot be used: {_one_line(error)}. "
                "Write s3://BUCKET/PATH or gs://BUCKET/PATH."
            ) from error
        super().__init__(root, store, path.rstrip("/"))
        s3 = root.startswith("s3:")
        self.copying = "aws s3 cp --recursive {} {}" if s3 else "gcloud storage rsync -r {} {}"
        if not self.base:
            raise ResultsError(f"results.dir={root!r} names no bucket. Write s3://BUCKET/PATH.")

    @override
    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with pq.ParquetFile(pa.BufferReader(self.read(name))) as file:
            return file.read(columns=columns, use_threads=file.metadata.num_rows > _MANY)

    @override
    def count(self, name: str) -> int:
        with self._asking("read", self._cannot_read):
            return super().count(name)

    @override
    def each(self, read: Callable[[T], R], names: Sequence[T]) -> list[R]:
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(read, names))

    @override
    def write(self, name: str, data: bytes) -> None:
        with self._asking("written", self._cannot_read):
            stream = self.filesystem.open_output_stream(self._path(name))
            stream.write(data)
            stream.close()  # the object appears here; a part that failed before makes this raise

    @override
    def make(self) -> None:
        bucket = self.base.partition("/")[0]
        with self._asking("read", self._cannot_read):
            kind = self.filesystem.get_file_info(bucket).type
        if kind is pafs.FileType.NotFound:
            raise ResultsError(
                f"Results folder {self.root!r}: there is no bucket {bucket!r}, or it may not be "
                f"read. Make it first. {_CHOOSE_ANOTHER}"
            )


def encode(rows: pa.Table) -> bytes:
    """Return the rows as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    if rows.num_rows == 1:
        # nothing repeats: without dictionaries and statistics smaller, and faster both ways
        pq.write_table(rows, sink, use_dictionary=False, write_statistics=False)
    else:
        texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
        integers = [field.name for field in rows.schema if pa.types.is_integer(field.type)]
        pq.write_table(
            rows,
            sink,
            compression="zstd",
            use_dictionary=texts,
            column_encoding=dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
        )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
