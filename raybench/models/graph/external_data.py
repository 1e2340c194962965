"""Weights in files beside a graph: whether they are there, what is read of them, and copies of them."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ModelError
from raybench.models.graph.graph_walk import tensors

if TYPE_CHECKING:
    import onnx


def check_external(path: Path, proto: onnx.ModelProto) -> tuple[str, ...]:
    """Return the paths of a graph's files of weights, relative to its folder, each once.

    Raises:
        ModelError: a file is missing, too short, or outside the folder of the graph. A symbolic
            link in the folder is not outside, wherever it leads.
    """
    ends: dict[str, int] = {}
    for tensor in tensors(proto.graph):
        if _is_external(tensor):
            location, offset, length = _place(path, tensor)
            ends[location] = max(ends.get(location, 0), offset + (length or 0))
    for location, end in ends.items():
        _check_file(path, location, end)
    return tuple(sorted(ends))


def load_small(path: Path, proto: onnx.ModelProto, elements: int) -> None:
    """Load the tensors of up to so many elements: shape inference needs axes and shapes."""
    for tensor in tensors(proto.graph):
        if _is_external(tensor) and math.prod(tensor.dims) <= elements:
            location, offset, length = _place(path, tensor)
            with (path.parent / location).open("rb") as file:
                file.seek(offset)
                tensor.raw_data = file.read(-1 if length is None else length)
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")


def copy_external(source: Path, proto: onnx.ModelProto, folder: Path) -> None:
    """Copy a graph's files of weights into a folder and make the graph refer to the copies.

    The copies have names of their own, so that none can take the place of another file there.

    Args:
        source: the graph file that the weights belong to.
        proto: the graph; its locations are changed.
        folder: receives "weights_0.bin", "weights_1.bin", ...
    """
    external = [tensor for tensor in tensors(proto.graph) if _is_external(tensor)]
    locations = sorted({_place(source, tensor)[0] for tensor in external})
    names = {location: f"weights_{index}.bin" for index, location in enumerate(locations)}
    for tensor in external:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = names[os.path.normpath(entry.value)]
    for location, name in names.items():
        shutil.copyfile(source.parent / location, folder / name)


def _is_external(tensor: onnx.TensorProto) -> bool:
    from onnx.external_data_helper import uses_external_data

    return bool(uses_external_data(tensor))


def _place(path: Path, tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """Return location, offset and length in bytes of a tensor; None for the rest of the file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = os.path.normpath(entries.get("location", ""))
    if Path(location).is_absolute() or Path(location).parts[:1] == ("..",):
        raise ModelError(
            f"Model file {str(path)!r} keeps weights at {location!r}, outside its own folder. "
            "Save it again with its external data beside it."
        )
    length = entries.get("length")
    return location, int(entries.get("offset") or 0), int(length) if length else None


def _check_file(path: Path, location: str, end: int) -> None:
    file = path.parent / location
    try:
        size = file.stat().st_size if file.is_file() else None
    except OSError:  # such as a name that is too long
        size = None
    if size is None:
        raise ModelError(
            f"Model file {str(path)!r} keeps its weights in {location!r}, which is missing from "
            f"{str(path.parent)!r}. Copy that file there."
        )
    if size < end:
        raise ModelError(
            f"Weights file {str(file)!r} is cut off: it has {size} bytes and its graph "
            f"needs {end}. Copy it again."
        )
