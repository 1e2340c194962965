"""Cache: what this node has built already, one folder an entry, under a hash of what it is made of.

An entry appears whole (a folder renamed into place) and is looked after by a lock of its own, so
any number of processes may ask for it at once: one builds, the others wait. Each holds an
`entry.json` that tells the size, time and SHA-256 of its files. A file whose size and time are as
told is trusted; one whose time differs is hashed again; an entry that fails is built anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMAT = 1
"""Rises when entries of older versions must not be read."""

_FACTS = "entry.json"
_CHUNK_BYTES = 1 << 22


def cache_dir() -> Path:
    """The folder that RAYBENCH_CACHE names, else ~/.cache/raybench."""
    return Path(os.environ.get("RAYBENCH_CACHE") or "~/.cache/raybench").expanduser()


def key_of(**parts: Any) -> str:
    """40 hex digits over all that an entry is made of; parts must be JSON values."""
    text = json.dumps(
        {"format": FORMAT, **parts}, sort_keys=True, separators=(",", ":"), default=list
    )
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read piece by piece."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            total.update(piece)
    return total.hexdigest()


@dataclass(frozen=True)
class Stored:
    """One file of an entry, as it was when the entry was made."""

    size_bytes: int
    mtime_ns: int
    sha256: str

    def holds(self, path: Path) -> bool:
        """Whether the file is still what it was; hashes it only if its time has changed."""
        try:
            told = path.stat()
        except OSError:
            return False
        if told.st_size != self.size_bytes:
            return False
        return told.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache that is complete.

    Attributes:
        folder: where it lies.
        files: its files by name.
        facts: what its builder had to tell, as JSON values.
    """

    folder: Path
    files: dict[str, Stored]
    facts: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Over all files, by name."""
        if len(self.files) == 1:
            return next(iter(self.files.values())).sha256
        text = "\n".join(f"{name} {stored.sha256}" for name, stored in sorted(self.files.items()))
        return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A folder of entries, shared by all processes of a node.

    Args:
        root: the folder; it is made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()

    def entry(self, key: str, build: Callable[[Path], dict[str, Any]]) -> CacheEntry:
        """The entry of a key, built if it is missing or damaged.

        Args:
            key: of `key_of`.
            build: fills the folder that it is given and returns the facts to keep.

        Raises:
            ConfigError: the folder cannot be written.
        """
        found = self._read(key)
        if found is not None:
            return found
        with self.hold(key):
            return self._read(key) or self._write(key, build)

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Keep every other process from building this entry; not for use inside its own build."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._root / f".{key}.lock")
            lock.acquire()
        except OSError as error:
            raise ConfigError(
                f"Cache folder {str(self._root)!r} cannot be written: {error.strerror or error}. "
                "Set RAYBENCH_CACHE to a folder of this node that can."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _read(self, key: str) -> CacheEntry | None:
        folder = self._root / key
        try:
            told = json.loads((folder / _FACTS).read_text())
            files = {name: Stored(**stored) for name, stored in told["files"].items()}
            facts = dict(told["facts"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        if not all(stored.holds(folder / name) for name, stored in files.items()):
            return None
        return CacheEntry(folder, files, facts)

    def _write(self, key: str, build: Callable[[Path], dict[str, Any]]) -> CacheEntry:
        for left in self._root.glob(f".{key}.*.part"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".part", dir=self._root))
        try:
            facts = build(part)
            files = {
                str(path.relative_to(part)): _stored(path)
                for path in sorted(part.rglob("*"))
                if path.is_file()
            }
            told = {
                "files": {name: asdict(stored) for name, stored in files.items()},
                "facts": facts,
            }
            (part / _FACTS).write_text(json.dumps(told, indent=1, sort_keys=True))
            folder = self._root / key
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return CacheEntry(folder, files, facts)


def _stored(path: Path) -> Stored:
    told = path.stat()
    return Stored(told.st_size, told.st_mtime_ns, sha256_of(path))
