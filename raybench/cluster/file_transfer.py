"""Copies files between nodes: a model to where it runs, a built plan to similar nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError
from raybench.models.cache import Cache, cache_dir, key_of, sha256_of
from raybench.models.onnxfile import OnnxFile
from raybench.models.source import identity, resolve
from raybench.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from raybench.experiment import ModelSettings


@dataclass(frozen=True)
class FileBundle:
    """Files in memory, on their way to another node.

    Attributes:
        files: content of each file as uint8, by name: relative to the graph for a model, relative
            to the node's cache for what was built.
        graph: name of a model's graph file; empty for what was built.
    """

    files: Mapping[str, NDArray[np.uint8]]
    graph: str = ""


def needs_transfer(model: str) -> bool:
    """Return whether a model consists of files; models of the zoo are written on each node."""
    return isinstance(resolve(model), Path)


def bundle_model(path: str) -> FileBundle:
    """Read the graph and the external weights of a model into memory.

    Raises:
        ModelError: when the file is no usable model.
    """
    model = OnnxFile.open(Path(path).expanduser())
    folder = model.path.parent
    return FileBundle(
        {str(file.relative_to(folder)): np.fromfile(file, np.uint8) for file in model.files},
        model.path.name,
    )


def local_model_path(
    path: str, settings: ModelSettings, wanted: str, fetch: Callable[[], FileBundle]
) -> str:
    """Return a path of the model on this node, and write the model there if need be.

    Args:
        path: of the model, as the user gave it; used if this node has the same files there.
        settings: of the model; part of its identity.
        wanted: the model's identity on the driver.
        fetch: returns the model's files; called only when the node does not have them.
    """
    try:
        if identity(path, settings) == wanted:
            return path
    except ModelError:
        pass  # the node has no such file, so it gets the driver's

    def build(folder: Path) -> dict[str, Any]:
        bundle = fetch()
        for name, data in bundle.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            data.tofile(file)
        return {"graph": bundle.graph}

    entry = Cache(cache_dir() / "received").entry(key_of(identity=wanted), build)
    return str(entry.folder / entry.facts["graph"])


def manifest(names: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of files in this node's cache, by name, in the same order."""
    return {name: sha256_of(cache_dir() / name) for name in names}


def bundle_cached(names: Iterable[str]) -> FileBundle:
    """Read files of this node's cache into memory."""
    return FileBundle({name: np.fromfile(cache_dir() / name, np.uint8) for name in names})


def store_in_cache(manifest: Mapping[str, str], fetch: Callable[[], FileBundle]) -> bool:
    """Write files into this node's cache, in order, each whole or not at all.

    Args:
        manifest: SHA-256 of each file by name, from `manifest` on another node.
        fetch: returns the files; called only when this node does not have the same ones.

    Returns:
        Whether the files had to be fetched.
    """
    root = cache_dir()
    if all(_has_hash(root / name, sha256) for name, sha256 in manifest.items()):
        return False
    bundle = fetch()
    for name in manifest:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, bundle.files[name].data)
    return True


def _has_hash(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False
