"""The node's cache: one folder for each entry, named by a hash of everything it depends on.

An entry appears as a whole (its folder is renamed into place) and has a lock of its own, so any
number of processes may request it at once: one builds, the others wait. Its `entry.json` records
size, time and SHA-256 of each file. A file of that size and time is trusted; one whose time differs
is hashed again; an entry that fails is built anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from raybench.errors import ConfigError
from raybench.machine import folders
from raybench.text import canonical_hash
from raybench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMAT = 1
"""Incremented when entries of older versions must not be read."""

_HEADER = "entry.json"
_CHUNK_BYTES = 1 << 22


def cache_dir() -> Path:
    """Return the folder named by RAYBENCH_CACHE, else ~/.cache/raybench; or what takes its place.

    Raises:
        ConfigError: no folder for it can be written.
    """
    chosen = folders.cache()
    if chosen.path is None:
        raise ConfigError(str(chosen.note))
    return chosen.path


def key_of(**parts: Any) -> str:
    """Return 40 hex digits over everything an entry depends on, given as JSON values."""
    return canonical_hash({"format": FORMAT, **parts}, 40, default=list)


def sha256_of(path: Path) -> str:
    """Return the hex digest of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _place(path: Path) -> tuple[int, ...]:
    """Return what two links to one unchanged file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Fingerprint:
    """Size, modification time and hash of a file when its entry was built."""

    size_bytes: int
    mtime_ns: int
    sha256: str

    def matches(self, path: Path) -> bool:
        """Return whether a file is unchanged; hashes it only if its time has changed."""
        try:
            status = path.stat()
        except OSError:
            return False
        if status.st_size != self.size_bytes:
            return False
        return status.st_mtime_ns == self.mtime_ns or sha256_of(path) == self.sha256


@dataclass(frozen=True)
class CacheEntry:
    """A complete entry of the cache.

    Attributes:
        folder: its folder.
        files: fingerprint of each of its files, by name.
        facts: facts returned by its builder, as JSON values.
    """

    folder: Path
    files: dict[str, Fingerprint]
    facts: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Hash over all files, in the order of their names."""
        if len(self.files) == 1:
            return next(iter(self.files.values())).sha256
        text = "\n".join(
            f"{name} {fingerprint.sha256}" for name, fingerprint in sorted(self.files.items())
        )
        return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A folder of entries, shared by all processes of a node.

    Args:
        root: the folder; it is created when first needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self._hashes: dict[tuple[int, ...], str] = {}

    def entry(
        self, key: str, build: Callable[[Path], dict[str, Any]], revision: str = ""
    ) -> CacheEntry:
        """Return the entry of a key, built first if it is missing, damaged or of another revision.

        Args:
            key: from `key_of`.
            build: fills the given folder and returns the facts to keep.
            revision: of the code that builds it; an entry keeps its place when that changes.

        Raises:
            ConfigError: the folder cannot be written.
        """
        entry = self._read(key, revision)
        if entry is not None:
            return entry
        with self.hold(key):
            return self._read(key, revision) or self._write(key, build, revision)

    def has(self, key: str) -> bool:
        """Return whether an entry has been completed, whatever has become of its files."""
        return (self._root / key / _HEADER).is_file()

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Keep other processes from building an entry; must not be used inside its own build."""
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

    def unfinished(self) -> list[Path]:
        """Return the folders of entries that a process began and that nobody builds any more."""
        parts = sorted(self._root.glob(".*.part"))
        return [part for part in parts if not self._is_held(part.name.split(".")[1])]

    def of_other_versions(self) -> dict[Path, str]:
        """Return the complete entries that another raybench has made, with its version."""
        found = {}
        for header in sorted(self._root.glob(f"[!.]*/{_HEADER}")):
            try:
                version = str(json.loads(header.read_text()).get("raybench", "an earlier version"))
            except (OSError, ValueError, AttributeError):
                version = "an unknown version"
            if version != __version__ and not self._is_held(header.parent.name):
                found[header.parent] = version
        return found

    def _is_held(self, key: str) -> bool:
        lock = FileLock(self._root / f".{key}.lock", timeout=0)
        try:
            lock.acquire()
        except (OSError, Timeout):
            return True
        lock.release()
        return False

    def _read(self, key: str, revision: str) -> CacheEntry | None:
        folder = self._root / key
        try:
            header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
            files = {name: Fingerprint(**fields) for name, fields in header["files"].items()}
            facts = dict(header["facts"])
            current = header.get("revision", "") == revision
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        if not current:
            return None
        if not all(fingerprint.matches(folder / name) for name, fingerprint in files.items()):
            return None
        return self._known(CacheEntry(folder, files, facts))

    def _known(self, entry: CacheEntry) -> CacheEntry:
        """Remember the hashes of an entry for others that hold links to its files."""
        with contextlib.suppress(OSError):  # another process may be building it anew
            for name, fingerprint in entry.files.items():
                self._hashes[_place(entry.folder / name)] = fingerprint.sha256
        return entry

    def _fingerprint(self, path: Path) -> Fingerprint:
        """Return the fingerprint of a file, hashed unless it is a link to one of an entry in hand."""
        status = path.stat()
        sha256 = self._hashes.get(_place(path)) or sha256_of(path)
        return Fingerprint(status.st_size, status.st_mtime_ns, sha256)

    def _write(
        self, key: str, build: Callable[[Path], dict[str, Any]], revision: str
    ) -> CacheEntry:
        for leftover in self._root.glob(f".{key}.*.part"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{key}.", suffix=".part", dir=self._root))
        try:
            facts = build(part)
            files = {
                str(path.relative_to(part)): self._fingerprint(path)
                for path in sorted(part.rglob("*"))
                if path.is_file()
            }
            header = {
                "files": {name: asdict(fingerprint) for name, fingerprint in files.items()},
                "facts": facts,
                "revision": revision,
                "raybench": __version__,
            }
            (part / _HEADER).write_text(json.dumps(header, indent=1, sort_keys=True))
            folder = self._root / key
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        return self._known(CacheEntry(folder, files, facts))
