"""Files: the one way to the bytes of a results folder, on a disk or in an object store.

Everything that touches storage stands here. Names are relative to the root and use "/". Names that
start with "." or "_" are nobody's rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from typing_extensions import override

from raybench.errors import ResultsError
from raybench.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FORMAT_FILE = "raybench.json"
FORMAT_VERSION = 1
"""Version of the layout of the folder; the schema of the rows has its own."""
REQUESTS = 16
"""Objects that are read at the same time; each takes tens of milliseconds on its way."""
_WAY_OUT = "Choose another folder with results.dir=PATH."
_URI = re.compile(r"(s3|gs)://")

T = TypeVar("T")
R = TypeVar("R")

_MANY = 10_000
"""Rows of a file from which threads pay."""


def is_address(root: str) -> bool:
    """Whether a results folder is named by an address and not by a path."""
    return "://" in root.partition("?")[0]


def open_files(root: str | os.PathLike[str]) -> Files:
    """The files below a path, or below s3://bucket/path or gs://bucket/path.

    Raises:
        ResultsError: for a store that is not known or an address that cannot be read.
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
        root: as the user knows it.
        copying: the command that copies a folder into it, given both.
    """

    root: str
    copying = "cp -r {}/. {}/"

    @abstractmethod
    def kind(self, name: str = "") -> Literal["file", "folder"] | None:
        """What lies there, if anything does."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """All bytes of a file; raises FileNotFoundError without one."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: after a crash it is there complete, or as it was before."""

    @abstractmethod
    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of a Parquet file with its metadata; columns that it lacks are left out.

        Raises: OSError or pyarrow.ArrowException for a file that is torn or no Parquet.
        """

    @abstractmethod
    def count(self, name: str) -> int:
        """Rows of a Parquet file; raises as `read_table`."""

    @abstractmethod
    def listing(self, folder: str) -> dict[str, int]:
        """Parquet files at any depth below a folder: name without suffix -> change time in ns."""

    @abstractmethod
    def make(self) -> None:
        """Make the root if it is not there; raises ResultsError when it cannot be written."""

    @abstractmethod
    def strangers(self) -> list[str]:
        """Names at the root, but for hidden ones."""

    def each(self, read: Callable[[T], R], names: Sequence[T]) -> list[R]:
        """Read many files, in the way that suits the storage."""
        return [read(name) for name in names]

    def check_format(self) -> bool:
        """Whether the folder says that it is raybench's; raises ResultsError if a newer one's."""
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
        self._root = Path(root).expanduser().absolute()
        self.root = str(self._root)

    def _path(self, name: str) -> Path:
        return self._root / name

    @override
    def kind(self, name: str = "") -> Literal["file", "folder"] | None:
        path = str(self._path(name))
        if os.path.isdir(path):  # these two never raise, unlike Path's own
            return "folder"
        return "file" if os.path.exists(path) else None

    @override
    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    @override
    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        # one file at a time, ParquetFile, no threads: for one-row files 2 to 4 times as fast as
        # a dataset, pq.read_table or a pool (benchmarked at 2000 files)
        with pq.ParquetFile(self._path(name), memory_map=True) as file:
            return file.read(columns=columns, use_threads=file.metadata.num_rows > _MANY)

    @override
    def count(self, name: str) -> int:
        return int(pq.read_metadata(self._path(name)).num_rows)

    @override
    def listing(self, folder: str) -> dict[str, int]:
        found: dict[str, int] = {}
        self._list(self._path(folder), "", found)
        return dict(sorted(found.items()))

    def _list(self, folder: Path, prefix: str, found: dict[str, int]) -> None:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ResultsError(
                f"Results folder {str(folder)!r} cannot be read: {error.strerror or error}. "
                "Get the right to read there, or give another folder."
            ) from error
        for entry in entries:
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                self._list(Path(entry.path), f"{prefix}{entry.name}/", found)
            elif entry.name.endswith(".parquet"):
                with contextlib.suppress(FileNotFoundError):
                    name = prefix + entry.name.removesuffix(".parquet")
                    found[name] = entry.stat().st_mtime_ns

    @override
    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not beside it: polars refuses to scan the folder of a table that holds a leftover
            write_atomically(path, data, durable=True, temporary_dir=self._root)
        except OSError as error:
            raise ResultsError(
                f"Results file {str(path)!r} cannot be written: {error.strerror or error}. "
                "Free space or rights there, or choose another folder with results.dir=PATH."
            ) from error

    @override
    def make(self) -> None:
        if self.kind() == "file":
            raise ResultsError(f"Results folder {self.root!r} is a file. {_WAY_OUT}")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            probe = self._path(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
            probe.touch()  # root may write where the mode forbids it, and not on a read-only disk
            probe.unlink()
        except OSError as error:
            raise ResultsError(
                f"Results folder {self.root!r} cannot be written: {error.strerror or error}. "
                f"{_WAY_OUT}"
            ) from error
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise ResultsError(f"Results folder {self.root!r} cannot be written. {_WAY_OUT}")

    @override
    def strangers(self) -> list[str]:
        return sorted(p.name for p in self._root.iterdir() if not p.name.startswith("."))


class Bucket(Files):
    """In an object store: s3://bucket/path or gs://bucket/path.

    An object appears when all of it has arrived, or not at all, so a write needs no detour. Who
    may do what is the store's own affair: its usual variables and files (AWS_PROFILE,
    AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS) count, and so do the options of pyarrow's
    addresses (`s3://bucket/path?region=eu-west-1`).
    """

    def __init__(self, root: str) -> None:
        self.root = root
        try:
            self._store, path = pafs.FileSystem.from_uri(root)
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(
                f"results.dir={root!r} cannot be used: {_words(error)}. "
                "Write s3://BUCKET/PATH or gs://BUCKET/PATH."
            ) from error
        self._root = path.rstrip("/")
        s3 = root.startswith("s3:")
        self.copying = "aws s3 cp --recursive {} {}" if s3 else "gcloud storage rsync -r {} {}"
        if not self._root:
            raise ResultsError(f"results.dir={root!r} names no bucket. Write s3://BUCKET/PATH.")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Errors of the store in one sentence; a missing object stays FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(
                f"Results folder {self.root!r} cannot be {what}: {_words(error)}. Check the name, "
                "the rights and the network, or choose another folder with results.dir=PATH."
            ) from error

    @override
    def kind(self, name: str = "") -> Literal["file", "folder"] | None:
        with self._asking("read"):
            found = self._store.get_file_info(self._path(name)).type
        return {pafs.FileType.File: "file", pafs.FileType.Directory: "folder"}.get(found)  # type: ignore[return-value]

    @override
    def read(self, name: str) -> bytes:
        with self._asking("read"), self._store.open_input_stream(self._path(name)) as stream:
            data: bytes = stream.read()
            return data

    @override
    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with pq.ParquetFile(pa.BufferReader(self.read(name))) as file:
            return file.read(columns=columns, use_threads=file.metadata.num_rows > _MANY)

    @override
    def count(self, name: str) -> int:
        with self._asking("read"), self._store.open_input_file(self._path(name)) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    @override
    def each(self, read: Callable[[T], R], names: Sequence[T]) -> list[R]:
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(read, names))

    @override
    def listing(self, folder: str) -> dict[str, int]:
        below = self._path(folder)
        found = {}
        for entry in self._entries(below, recursive=True):
            name = entry.path.removeprefix(f"{below}/")
            hidden = any(part.startswith((".", "_")) for part in name.split("/"))
            if entry.type is pafs.FileType.File and name.endswith(".parquet") and not hidden:
                found[name.removesuffix(".parquet")] = int(entry.mtime_ns or 0)
        return dict(sorted(found.items()))

    def _entries(self, path: str, *, recursive: bool) -> list[pafs.FileInfo]:
        wanted = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
        with self._asking("read"):
            return list(self._store.get_file_info(wanted))

    @override
    def write(self, name: str, data: bytes) -> None:
        with self._asking("written"):
            stream = self._store.open_output_stream(self._path(name))
            stream.write(data)
            stream.close()  # the object appears here; a failed part before makes this raise

    @override
    def make(self) -> None:
        bucket = self._root.partition("/")[0]
        with self._asking("read"):
            found = self._store.get_file_info(bucket).type
        if found is pafs.FileType.NotFound:
            raise ResultsError(
                f"Results folder {self.root!r}: there is no bucket {bucket!r}, or it may not be "
                f"read. Make it first. {_WAY_OUT}"
            )

    @override
    def strangers(self) -> list[str]:
        names = (e.path.rpartition("/")[2] for e in self._entries(self._root, recursive=False))
        return sorted(name for name in names if name and not name.startswith("."))


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
