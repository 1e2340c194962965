"""Copies files between nodes: a model and its inputs to where it runs, a built plan to similar nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError
from raybench.models.cache import Cache, cache_dir, key_of, sha256_of
from raybench.models.graph.onnxfile import graph_files
from raybench.models.items.input_files import files_digest, files_of
from raybench.models.named.catalogue import NamedModel
from raybench.models.named.exports import is_exported
from raybench.models.source import identity, model_file
from raybench.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from raybench.experiment import ModelSettings


LARGEST_INPUTS_BYTES = 1 << 30
"""Real inputs larger than this are not sent to other nodes."""

_FILES = "files"
"""Folder of received files within their entry of the cache."""


@dataclass(frozen=True)
class FileBundle:
    """Files in memory, on their way to another node.

    Attributes:
        files: content of each file as uint8, by name: relative to the graph for a model, to the
            setting's folder for real inputs, to the node's cache for what was built.
        root: name of a model's graph file, or of the only file of real inputs; else empty.
    """

    files: Mapping[str, NDArray[np.uint8]]
    root: str = ""

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the files into a folder; return the facts that its cache entry keeps."""
        for name, data in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            data.tofile(file)
        return {"graph": self.root}


def file_to_send(model: str, settings: ModelSettings) -> Path | None:
    """Return the graph file of a model; None for one of the zoo, which each node writes itself.

    A named model is exported where the command runs, so that all nodes measure the same bits and only
    that one needs its packages.

    Raises:
        ModelError: it cannot be exported.
    """
    return model_file(model, settings)


def bundle_model(path: str) -> FileBundle:
    """Read the graph and the external weights of a model into memory.

    Raises:
        ModelError: when one of them cannot be read.
    """
    graph = Path(path)
    content = {
        str(file.relative_to(graph.parent)): np.fromfile(file, np.uint8)
        for file in graph_files(graph)
    }
    return FileBundle(content, graph.name)


def local_model_path(
    path: str, settings: ModelSettings, wanted: str, fetch: Callable[[], FileBundle]
) -> str:
    """Return a path of the model on this node, and write the model there if need be.

    Args:
        path: of the model, or the name of one of a package, as the user gave it; used if this node has
            the same files there, or has exported the same.
        settings: of the model; part of its identity.
        wanted: the model's identity on the driver.
        fetch: returns the model's files; called only when the node does not have them.
    """
    try:
        at_hand = NamedModel.parse(path) is None or is_exported(wanted)
        if at_hand and identity(path, settings) == wanted:
            return path
    except ModelError:
        pass  # the node has no such file, so it gets the driver's

    return _received(key_of(identity=wanted), fetch)


def bundle_inputs(path: str) -> FileBundle | None:
    """Read the files of `model.inputs` into memory; None if they are too large to be sent.

    Raises:
        ModelError: when there are none.
    """
    root = Path(path).expanduser()
    files = files_of(path)
    if sum(file.stat().st_size for file in files) > LARGEST_INPUTS_BYTES:
        return None
    folder = root.parent if root.is_file() else root
    content = {str(file.relative_to(folder)): np.fromfile(file, np.uint8) for file in files}
    return FileBundle(content, root.name if root.is_file() else "")


def local_inputs_path(path: str, wanted: str, fetch: Callable[[], FileBundle]) -> str:
    """Return a path of real inputs on this node, and write them there if need be.

    Args:
        path: `model.inputs`, as the user gave it; used if this node has the same files there.
        wanted: hash of the files on the driver.
        fetch: returns the files; called only when the node does not have them.
    """
    try:
        if files_digest(path) == wanted:
            return path
    except ModelError:
        pass  # the node has no such files, so it gets the driver's
    return _received(key_of(inputs=wanted), fetch)


def _received(key: str, fetch: Callable[[], FileBundle]) -> str:
    """Return the path of files that came from the driver, fetched first if they are not here."""

    def build(folder: Path) -> dict[str, Any]:
        # a folder of their own, for a file of weights may have the name of the entry's header
        return fetch().write(folder / _FILES)

    entry = Cache(cache_dir() / "received").entry(key, build, _FILES)
    return str(entry.folder / _FILES / entry.facts["graph"])


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
