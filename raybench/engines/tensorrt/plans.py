"""Plans: built once for a kind of GPU, kept on disk, and never run when they are not what they say."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.engines.tensorrt.builder import Built

FORMAT = 2
"""Rises when a plan made by an older raybench must not be used again."""


@dataclass(frozen=True)
class EnginePlan:
    """A serialised engine, and how it was come by.

    Attributes:
        data: what TensorRT deserialises.
        sha256: of `data`.
        build_s: what building took, then or now.
        hit: whether it came from the cache.
        key: its name in the cache.
    """

    data: bytes
    sha256: str
    build_s: float
    hit: bool
    key: str

    @property
    def files(self) -> tuple[str, str]:
        """Its files in the cache's folder, the header last."""
        return f"{self.key}.plan", f"{self.key}.json"


def key_of(facts: Mapping[str, Any]) -> str:
    """Name of the plan that these facts decide: 32 hex digits over canonical JSON."""
    return hashlib.sha256(_canonical(facts).encode()).hexdigest()[:32]


def _canonical(facts: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, **facts}, sort_keys=True, separators=(",", ":"))


class PlanCache:
    """A folder of plans and timing caches that processes share; nodes may share it too.

    A plan lies beside a header that says what it is and holds its hash. The header is written last
    and both by renaming, so a reader meets a whole plan or none; the lock only keeps two processes
    from building the same one.

    Args:
        folder: made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, facts: Mapping[str, Any], build: Callable[[], Built]) -> EnginePlan:
        """The plan of these facts: from the folder, or built while others wait.

        Args:
            facts: everything that changes the plan, as JSON can hold it.
            build: makes it; what it raises passes through.
        """
        key = key_of(facts)
        with FileLock(self._folder / f"{key}.lock"):
            plan = self._read(key, facts)
            if plan is None:
                built = build()
                plan = self._write(key, facts, built)
        return plan

    def discard(self, key: str) -> None:
        """Forget a plan that its own library will not load."""
        for suffix in (".json", ".plan"):
            (self._folder / f"{key}{suffix}").unlink(missing_ok=True)

    def timing(self, name: str) -> bytes:
        """What builders of this library and GPU have learnt; empty at first."""
        try:
            return (self._folder / f"{name}.timing").read_bytes()
        except OSError:
            return b""

    def learn(self, name: str, learnt: bytes, merge: Callable[[bytes, bytes], bytes]) -> None:
        """Keep what a builder has learnt, merged with what others wrote meanwhile.

        Args:
            name: of library and GPU.
            learnt: the builder's timing cache.
            merge: makes one of ours and theirs.
        """
        with FileLock(self._folder / f"{name}.timing.lock"):
            theirs = self.timing(name)
            if theirs != learnt:
                self._replace(f"{name}.timing", merge(learnt, theirs) if theirs else learnt)

    def _read(self, key: str, facts: Mapping[str, Any]) -> EnginePlan | None:
        try:
            header = json.loads((self._folder / f"{key}.json").read_text())
            data = (self._folder / f"{key}.plan").read_bytes()
            same = (
                _canonical(header["facts"]) == _canonical(facts)
                and len(data) == header["bytes"]
                and hashlib.sha256(data).hexdigest() == header["sha256"]
            )
            if not same:
                return None
            return EnginePlan(data, header["sha256"], float(header["build_s"]), hit=True, key=key)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, key: str, facts: Mapping[str, Any], built: Built) -> EnginePlan:
        sha256 = hashlib.sha256(built.plan).hexdigest()
        header = {
            "format": FORMAT,
            "facts": dict(facts),
            "sha256": sha256,
            "bytes": len(built.plan),
            "build_s": built.build_s,
        }
        self.discard(key)
        self._replace(f"{key}.plan", built.plan)
        self._replace(f"{key}.json", json.dumps(header, indent=1, sort_keys=True).encode())
        return EnginePlan(built.plan, sha256, built.build_s, hit=False, key=key)

    def _replace(self, name: str, data: bytes) -> None:
        handle, path = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(path, self._folder / name)
        except BaseException:
            Path(path).unlink(missing_ok=True)
            raise
