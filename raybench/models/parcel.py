"""Parcel: a user's model as its files, on the way to a node that does not have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import ModelError
from raybench.models.cache import Cache, cache_dir, key_of
from raybench.models.onnxfile import OnnxFile
from raybench.models.source import identity, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from raybench.experiment import ModelSettings


@dataclass(frozen=True)
class Parcel:
    """The files of one model.

    Attributes:
        graph: name of the graph file.
        files: bytes of the graph and of its external weights, uint8, by name relative to it.
    """

    graph: str
    files: Mapping[str, NDArray[np.uint8]]


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
        file.path.name,
        {str(path.relative_to(folder)): np.fromfile(path, np.uint8) for path in file.files},
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
