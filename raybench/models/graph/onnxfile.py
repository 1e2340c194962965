"""A user's ONNX file: opened without its external data and checked before anything starts."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ModelError, UsageError
from raybench.models.graph.external_data import check_external, load_small
from raybench.models.graph.graph_types import GraphTypes, graph_types
from raybench.models.graph.normal_form import normalise
from raybench.models.graph.shape_inference import KEEP_ELEMENTS
from raybench.models.graph.tensor_sizes import refuse_damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_REASON_CHARACTERS = 200

_INPUT_TYPES = (
    "FLOAT",
    "FLOAT16",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "BOOL",
)


@dataclass(frozen=True)
class OnnxFile:
    """One graph file and its files of weights.

    Attributes:
        path: the graph file.
        proto: its content in normal form; weights in external files are not loaded.
        types: what it computes in.
    """

    path: Path
    proto: onnx.ModelProto
    types: GraphTypes

    @classmethod
    def open(cls, path: Path) -> OnnxFile:
        """Read and check a file; raises ModelError, which says what to do."""
        with understood(path):
            proto = _read(path)
            check_external(path, proto)
            load_small(path, proto, KEEP_ELEMENTS)
            refuse_damaged(path, proto)
            proto = normalise(proto, fold=False)
            types = graph_types(proto)  # before weights of a narrow type are folded to floats
            proto = normalise(proto, fold=types.first is None)
            _refuse_inputs(path, proto)
            return cls(path, proto, types)

    @property
    def inputs(self) -> tuple[onnx.ValueInfoProto, ...]:
        """The inputs that must be fed."""
        return tuple(self.proto.graph.input)


def graph_files(path: Path) -> tuple[Path, ...]:
    """Return a graph file and its files of weights; the graph is read and not walked.

    Any of them may be a symbolic link, as in the caches of model hubs.

    Raises:
        ModelError: one cannot be read.
    """
    with understood(path):
        external = check_external(path, _read(path))
        return (path, *(path.parent / location for location in external))


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a graph that is not valid ONNX into a ModelError."""
    try:
        yield
    except (UsageError, OSError):
        raise
    except Exception as error:  # of protobuf, onnx or numpy, according to what is wrong
        text = " ".join(str(error).split())[:_REASON_CHARACTERS]
        raise ModelError(
            f"Model file {str(path)!r} is not valid ONNX ({type(error).__name__}: {text}). "
            "Check it by onnx.checker.check_model and export it again."
        ) from error


def _read(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if os.path.isdir(path):
        raise ModelError(
            f"Model file {str(path)!r} is a folder. Give the path of the .onnx file in it."
        )
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise ModelError(
            f"Model file {str(path)!r} does not exist. Check the path; relative paths start from {str(Path.cwd())!r}."
        )
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(64)
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(
            f"Model file {str(path)!r} cannot be read: {error.strerror}. Check its permissions."
        ) from error
    except DecodeError as error:
        raise ModelError(f"Model file {str(path)!r} {_damage(head)}") from error
    if proto.graph.output and not proto.graph.node:
        raise ModelError(
            f"Model file {str(path)!r} has no nodes in its graph, so there is nothing to measure. "
            "Give the file of a whole model."
        )
    if not proto.graph.node:
        raise ModelError(f"Model file {str(path)!r} {_damage(head)}")
    return proto


def _damage(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model itself. Run 'git lfs pull' in its repository."
    if head.startswith(b"\x08"):  # the field that an ONNX file begins with
        return "is cut off or damaged: it begins as ONNX but cannot be read to its end. Copy or export it again."
    return "is not an ONNX model. Give a file written by an ONNX exporter."


def _refuse_inputs(path: Path, proto: onnx.ModelProto) -> None:
    from onnx import TensorProto

    if not proto.graph.input:
        raise ModelError(
            f"Model file {str(path)!r} has no inputs, so nothing can be streamed through it. Export it with its inputs."
        )
    if not proto.graph.output:
        raise ModelError(
            f"Model file {str(path)!r} has no outputs, so engines would compute nothing. Export it with its outputs."
        )
    for value in proto.graph.input:
        kind = value.type.WhichOneof("value")
        name = (
            TensorProto.DataType.Name(value.type.tensor_type.elem_type)
            if kind == "tensor_type"
            else str(kind)
        )
        if name not in _INPUT_TYPES:
            raise ModelError(
                f"Input {value.name!r} of {str(path)!r} is of type {name.lower()}, which cannot be generated. "
                "Export the model with float32, integer or bool inputs."
            )
