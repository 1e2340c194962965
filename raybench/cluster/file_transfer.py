"""Parcel: files on the way to a node that does not have them: a user's model, what was built."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError
from raybench.models.cache import Cache, cache_dir, key_of, sha256_of
from raybench.models.onnxfile import OnnxFile
from raybench.models.source import identity, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from raybench.experiment import ModelSettings


@dataclass(frozen=True)
class Parcel:
    """Files as nothing but bytes.

    Attributes:
        files: uint8, by name; of a model the graph and its external weights, relative to the graph;
            of what was built, relative to the node's cache.
        graph: name of the graph file of a model.
    """

    files: Mapping[str, NDArray[np.uint8]]
    graph: str = ""


def travels(name: str) -> bool:
    """Whether a model is made of files; the zoo's are written where they are used."""
    return isinstance(resolve(name), Path)


def pack(name: str) -> Parcel:
    """The files behind a path, read into memory.

    Raises:
        ModelError: the file is no usable model.
    """
    file = OnnxFile.open(Path(name).expanduser())
    folder = file.path.parent
    return Parcel(
        {str(path.relative_to(folder)): np.fromfile(path, np.uint8) for path in file.files},
        file.path.name,
    )


def here(name: str, settings: ModelSettings, wanted: str, fetch: Callable[[], Parcel]) -> str:
    """A path of the model on this node: its own if the same files lie there, else the parcel's.

    Args:
        name: the path that the user gave.
        settings: what the model was told; part of its identity.
        wanted: the model's identity at the driver.
        fetch: brings the parcel; not called when the node has the files.
    """
    try:
        if identity(name, settings) == wanted:
            return name
    except ModelError:
        pass  # no such file here: that is what the parcel is for

    def build(folder: Path) -> dict[str, Any]:
        parcel = fetch()
        for relative, data in parcel.files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            data.tofile(path)
        return {"graph": parcel.graph}

    entry = Cache(cache_dir() / "received").entry(key_of(identity=wanted), build)
    return str(entry.folder / entry.facts["graph"])


def manifest(names: Sequence[str]) -> dict[str, str]:
    """Files of this node's cache by name, each with its SHA-256, in the same order."""
    return {name: sha256_of(cache_dir() / name) for name in names}


def pack_built(names: Iterable[str]) -> Parcel:
    """Files of this node's cache, read into memory."""
    return Parcel({name: np.fromfile(cache_dir() / name, np.uint8) for name in names})


def lay(wanted: Mapping[str, str], fetch: Callable[[], Parcel]) -> bool:
    """Put files into this node's cache, one after another, each whole or not at all.

    Args:
        wanted: from `manifest`, of another node.
        fetch: brings the parcel; not called when the same files lie here already.

    Returns:
        Whether they had to be fetched.
    """
    root = cache_dir()
    if all(_same(root / name, sha256) for name, sha256 in wanted.items()):
        return False
    parcel = fetch()
    for name in wanted:
        _replace(root / name, parcel.files[name])
    return True


def _same(path: Path, sha256: str) -> bool:
    try:
        return sha256_of(path) == sha256
    except OSError:
        return False


def _replace(path: Path, data: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.data)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
