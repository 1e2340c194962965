"""The cache of plans: built once for a kind of GPU, kept on disk, checked before each use."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from raybench.paths import write_atomically
from raybench.text import canonical_hash, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from raybench.engines.tensorrt.builder import Built

FORMAT = 2
"""Incremented when plans of an older raybench must not be used any more."""


@dataclass(frozen=True)
class EnginePlan:
    """A serialised engine and its origin.

    Attributes:
        data: content that TensorRT deserialises.
        sha256: hash of `data`.
        build_s: seconds that building it took, whenever that was.
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
        """Names of its files in the cache's folder, the header last."""
        return f"{self.key}.plan", f"{self.key}.json"


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the name of the plan that these facts decide: 32 hex digits over canonical JSON."""
    return canonical_hash({"format": FORMAT, **facts}, 32)


class PlanCache:
    """A folder of plans and timing caches that processes share; nodes may share it too.

    Each plan has a header with its facts and its hash. The header is written last, and both are
    replaced as a whole, so a reader sees a complete plan or none; the lock only keeps two processes
    from building the same one. The layout differs from `models.cache.Cache`, because a plan's two
    files are sent to other machines one by one.

    Args:
        folder: is created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, facts: Mapping[str, Any], build: Callable[[], Built]) -> EnginePlan:
        """Return the plan of these facts from the folder, or build it while others wait.

        Args:
            facts: everything that decides the plan, as JSON values.
            build: builds it; its exceptions pass through.
        """
        key = key_of(facts)
        with FileLock(self._folder / f"{key}.lock"):
            plan = self._read(key, facts)
            if plan is None:
                built = build()
                plan = self._write(key, facts, built)
        return plan

    def last_build_s(self, facts: Mapping[str, Any]) -> float | None:
        """Return how long the newest plan of the same graph took to build; None where there is none.

        Its batch, library or GPU may be others, so this is no more than a hint.
        """
        newest: tuple[float, float] | None = None
        for path in self._folder.glob("*.json"):
            try:
                header = json.loads(path.read_text(encoding="utf-8"))
                same = header["facts"]["onnx_sha256"] == facts["onnx_sha256"]
                found = (path.stat().st_mtime, float(header["build_s"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if same and (newest is None or found > newest):
                newest = found
        return None if newest is None else newest[1]

    def discard(self, key: str) -> None:
        """Remove a plan that its own library does not load."""
        for suffix in (".json", ".plan"):
            (self._folder / f"{key}{suffix}").unlink(missing_ok=True)

    def timing(self, name: str) -> bytes:
        """Return what builders of this library and GPU have learnt; empty at first."""
        try:
            return (self._folder / f"{name}.timing").read_bytes()
        except OSError:
            return b""

    def learn(self, name: str, learnt: bytes, merge: Callable[[bytes, bytes], bytes]) -> None:
        """Store what a builder has learnt, merged with what others wrote meanwhile.

        Args:
            name: name of library and GPU.
            learnt: the builder's timing cache.
            merge: merges our timing cache and theirs.
        """
        with FileLock(self._folder / f"{name}.timing.lock"):
            theirs = self.timing(name)
            if theirs != learnt:
                merged = merge(learnt, theirs) if theirs else learnt
                write_atomically(self._folder / f"{name}.timing", merged)

    def _read(self, key: str, facts: Mapping[str, Any]) -> EnginePlan | None:
        try:
            header = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            data = (self._folder / f"{key}.plan").read_bytes()
            same = (
                canonical_json(header["facts"]) == canonical_json(dict(facts))
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
        write_atomically(self._folder / f"{key}.plan", built.plan)
        text = json.dumps(header, indent=1, sort_keys=True)
        write_atomically(self._folder / f"{key}.json", text.encode())
        return EnginePlan(built.plan, sha256, built.build_s, hit=False, key=key)
