"""Files: the one way to the bytes of a results folder.

Everything that touches a disk stands here, so that an object store can take its place. Names are
relative to the root and use "/". Names that start with "." or "_" are nobody's rows.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raybench.errors import ResultsError

FORMAT_FILE = "raybench.json"
FORMAT_VERSION = 1
"""Version of the layout of the folder; the schema of the rows has its own."""

_MANY = 10_000
"""Rows of a file from which threads pay."""


class Files:
    """A results folder on a local or mounted disk."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser().absolute()

    def path(self, name: str) -> Path:
        """Where a name lies."""
        return self.root / name

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return self.path(name).read_bytes()

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The rows of a Parquet file with its metadata; columns that it lacks are left out.

        Raises: OSError or pyarrow.ArrowException for a file that is torn or no Parquet.
        """
        # one file at a time, ParquetFile, no threads: for one-row files 2 to 4 times as fast as
        # a dataset, pq.read_table or a pool (benchmarked at 2000 files)
        with pq.ParquetFile(self.path(name), memory_map=True) as file:
            return file.read(columns=columns, use_threads=file.metadata.num_rows > _MANY)

    def count(self, name: str) -> int:
        """Rows of a Parquet file; raises as `read_table`."""
        return int(pq.read_metadata(self.path(name)).num_rows)

    def listing(self, folder: str) -> dict[str, int]:
        """Parquet files at any depth below a folder: name without suffix -> change time in ns."""
        found: dict[str, int] = {}
        self._list(self.path(folder), "", found)
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

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: after a crash it is there complete, or as it was before."""
        path = self.path(name)
        # not beside it: polars refuses to scan the folder of a table that holds a leftover
        temporary = self.path(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not isinstance(error, OSError):
                raise
            raise ResultsError(
                f"Results file {str(path)!r} cannot be written: {error.strerror or error}. "
                "Free space or rights there, or choose another folder with results.dir=PATH."
            ) from error

    def check_format(self) -> bool:
        """Whether the folder says that it is raybench's; raises ResultsError if a newer one's."""
        try:
            facts = json.loads(self.read(FORMAT_FILE))
            version = int(facts["format_version"])
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ResultsError(
                f"Results folder {str(self.root)!r} has a {FORMAT_FILE} that cannot be read. "
                "Choose another folder, or delete that file when the rest is raybench's."
            ) from error
        if version > FORMAT_VERSION:
            raise ResultsError(
                f"Results folder {str(self.root)!r} has format version {version}, newer than "
                f"{FORMAT_VERSION}, the newest that this raybench knows. Update raybench, or "
                "choose another folder."
            )
        return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks know it not
            raise
    finally:
        os.close(handle)
