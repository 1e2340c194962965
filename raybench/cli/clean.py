"""`raybench clean`: shows what ended runs left on this machine, and removes it when asked to.

Rows are never touched, nor anything that a running process still uses; only `cache=all` takes no account
of others.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.cli.arguments import parse, parse_format, to_bool
from raybench.cluster import session_folders
from raybench.config.words import shown
from raybench.errors import ConfigError, ResultsError, nearest
from raybench.machine import crash_log
from raybench.models.cache import Cache, cache_dir
from raybench.report.terminal.leftovers import FORMATS, Leftover, print_leftovers, size
from raybench.results import leases
from raybench.results.storage import Folder, is_address
from raybench.results.store import rescued
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPTIONS = ("remove", "yes", "cache", "format")
CACHE_FOLDERS = ("models", "references", "received", "exports")
"""Folders of the cache whose entries are folders; engines keep others."""
DEFAULT_RESULTS = "results"


def command(words: list[str]) -> int:
    """Print what can be removed; remove it with `remove`.

    Returns:
        0, or 1 when something could not be removed.

    Raises:
        ConfigError: for an unknown option or value.
        ResultsError: for a folder that does not exist.
    """
    arguments = parse("clean", words, OPTIONS, switches=("remove", "yes"))
    options = arguments.options
    form = parse_format(options, FORMATS)
    scope = options.get("cache", "old")
    if scope not in ("old", "all"):
        raise ConfigError(
            f"cache takes old or all, not {shown(scope)}. {nearest(scope, ('old', 'all'))}"
        )
    removing = any(to_bool(name, options.get(name, "false")) for name in ("remove", "yes"))
    found = [*_of_runs(), *_of_results(arguments.positional), *_of_cache(scope)]
    if removing:
        found = [replace(one, removed=_remove(one)) for one in found]
    print_leftovers(found, _notes(found, removing, scope), form, sys.stdout)
    return int(removing and not all(one.removed for one in found))


# ---------------------------------------------------------------- find


def _of_runs() -> Iterator[Leftover]:
    for folder in session_folders.abandoned():
        yield _leftover("Ray session", folder, "its driver was killed")
    for log in crash_log.old_logs():
        yield _leftover("worker log", log, "its process has ended")


def _of_results(folders: Sequence[str]) -> Iterator[Leftover]:
    for name in folders or [DEFAULT_RESULTS]:
        if is_address(name):
            continue  # an object store keeps no part of a write
        if not os.path.isdir(os.path.expanduser(name)):
            if not folders:
                return
            raise ResultsError(f"Results folder {shown(name)} does not exist. Name one that does.")
        files = Folder(name)
        for file in files.unfinished():
            yield _leftover("unfinished file", file, "its write was cut off over an hour ago")
        for lease in leases.dead(files):
            path = Path(files.root, leases.FOLDER, f"{lease.run_id}.json")
            yield _leftover("lease", path, "its driver has ended")


def _of_cache(scope: str) -> Iterator[Leftover]:
    for name in CACHE_FOLDERS:
        cache = Cache(cache_dir() / name)
        for folder in cache.unfinished():
            yield _leftover("unfinished cache entry", folder, "its builder was killed")
        if scope == "old":
            for folder, version in cache.of_other_versions().items():
                yield _leftover("cache entry", folder, f"made by raybench {version}")
    if scope == "all":
        for folder in _cache_folders():
            yield _leftover("cache", folder, "cache=all; made again when needed")


def _cache_folders() -> list[Path]:
    root = cache_dir()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _leftover(what: str, path: Path, why: str) -> Leftover:
    return Leftover(what, str(path), _size_bytes(path), why)


def _size_bytes(path: Path) -> int:
    files = (
        [path]
        if path.is_file()
        else [Path(at, name) for at, _, names in os.walk(path) for name in names]
    )
    total = 0
    for file in files:
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            total += file.lstat().st_size
    return total


# ---------------------------------------------------------------- remove


def _remove(one: Leftover) -> bool:
    """Remove a leftover; return whether it is gone."""
    path = Path(one.where)
    if one.what == "Ray session":
        return session_folders.remove(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return not path.exists()


def _notes(found: Sequence[Leftover], removing: bool, scope: str) -> list[str]:
    """Return lines that say what was or can be removed, and what is kept."""
    total = size(sum(one.size_bytes for one in found))
    things = counted(len(found), "thing")
    lines = [f"{things}, {total}. To remove: raybench clean remove"]
    if not found:
        lines = ["Nothing to remove."]
    elif removing:
        kept = [one.where for one in found if not one.removed]
        lines = (
            [f"Could not be removed: {', '.join(kept)}"]
            if kept
            else [f"Removed {things}, {total}."]
        )
    by_parent = Counter(folder.parent for folder in rescued())
    for parent, number in by_parent.items():
        folders = counted(number, "folder")
        lines.append(
            f"Kept  {folders} {parent}/raybench-rescued-*: rows that their results folder could not take. "
            "Copy the content of each into one (cp -r), then remove it."
        )
    if scope == "old":
        lines.append(
            f"Cache {cache_dir()}: {size(_size_bytes(cache_dir()))} in use; cache=all removes it too."
        )
    return lines
