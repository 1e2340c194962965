"""Weights in the user's own caches: those of the Hugging Face hub and of torch.hub.

Their layout is documented, so looking there imports neither library and asks no network.
"""

from __future__ import annotations

import os
from pathlib import Path

_WEIGHTS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
"""Begin and end of the names of files of weights in a snapshot, the preferred kind first."""
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


def is_offline() -> bool:
    """Return whether the user forbids to ask the hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in _TRUE for name in names)


def hub_folder() -> Path:
    """Return the cache of the Hugging Face hub."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _path(os.environ[name])
    home = os.environ.get("HF_HOME")
    return (_path(home) if home else _user_cache() / "huggingface") / "hub"


def checkpoint_folder() -> Path:
    """Return the folder of files that torch.hub has downloaded."""
    home = os.environ.get("TORCH_HOME")
    return (_path(home) if home else _user_cache() / "torch") / "hub" / "checkpoints"


def snapshot(repository: str) -> Path | None:
    """Return the folder of the newest revision of a repository in the cache; None if it has none.

    Args:
        repository: "owner/name", possibly with "@revision".
    """
    name, _, revision = repository.partition("@")
    folder = hub_folder() / f"models--{name.replace('/', '--')}"
    try:
        commit = (folder / "refs" / (revision or "main")).read_text().strip()
    except OSError:
        commit = revision
    found = folder / "snapshots" / commit
    return found if commit and found.is_dir() else None


def weights_in(folder: Path) -> tuple[Path, ...]:
    """Return the files of weights of a snapshot, with their indices; none if it has none."""
    for begin, end in _WEIGHTS:
        shards = sorted(folder.glob(f"{begin}-*-of-*{end}"))
        index = folder / f"{begin}{end}.index.json"
        whole = folder / f"{begin}{end}"
        if whole.is_file():
            return (whole,)
        if index.is_file() and shards and len(shards) == _of(shards[0]):
            return (index, *shards)
    return ()


def _of(shard: Path) -> int:
    """Return how many files of weights there are, by the name of one of them."""
    count = shard.stem.rpartition("-of-")[2]
    return int(count) if count.isdigit() else -1


def _user_cache() -> Path:
    return _path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _path(written: str) -> Path:
    return Path(os.path.expandvars(written)).expanduser()
