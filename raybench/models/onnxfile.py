"""A user's ONNX file: opened without its external data and checked before anything starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ModelError
from raybench.models.normal_form import normalise, tensors
from raybench.models.shape_inference import KEEP_ELEMENTS

if TYPE_CHECKING:
    import onnx

_QUANTISED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
)
_INPUT_TYPES = (
    "FLOAT",
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
        external: locations of the external files, relative to the graph file's folder.
    """

    path: Path
    proto: onnx.ModelProto
    external: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> OnnxFile:
        """Read and check a file; raises ModelError, which says what to do."""
        proto = _read(path)
        external = _external(path, proto)
        _load_constants(path, proto)
        proto = normalise(proto)
        _refuse_reduced(path, proto)
        _refuse_inputs(path, proto)
        return cls(path, proto, external)

    @property
    def files(self) -> tuple[Path, ...]:
        """The graph file and all external files."""
        return (self.path, *(self.path.parent / location for location in self.external))

    @property
    def inputs(self) -> tuple[onnx.ValueInfoProto, ...]:
        """The inputs that must be fed."""
        return tuple(self.proto.graph.input)


def _read(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if path.is_dir():
        raise ModelError(
            f"Model file {str(path)!r} is a folder. Give the path of the .onnx file in it."
        )
    if not path.is_file():
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
    if not proto.graph.node:
        raise ModelError(f"Model file {str(path)!r} {_damage(head)}")
    return proto


def _damage(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model itself. Run 'git lfs pull' in its repository."
    if head.startswith(b"\x08"):  # the field that an ONNX file begins with
        return "is cut off or damaged: it begins as ONNX but cannot be read to its end. Copy or export it again."
    return "is not an ONNX model. Give a file written by an ONNX exporter."


def _external(path: Path, proto: onnx.ModelProto) -> tuple[str, ...]:
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    ends: dict[str, int] = {}
    for tensor in tensors(proto.graph):
        if uses_external_data(tensor):
            info = ExternalDataInfo(tensor)
            length = info.length or 0
            ends[info.location] = max(ends.get(info.location, 0), (info.offset or 0) + length)
    for location, end in ends.items():
        file = path.parent / location
        if Path(location).is_absolute() or ".." in Path(location).parts:
            raise ModelError(
                f"Model file {str(path)!r} keeps weights at {location!r}, outside its own folder. "
                "Save it again with its external data beside it."
            )
        if not file.is_file():
            raise ModelError(
                f"Model file {str(path)!r} keeps its weights in {location!r}, which is missing from "
                f"{str(path.parent)!r}. Copy that file there."
            )
        if file.stat().st_size < end:
            raise ModelError(
                f"Weights file {str(file)!r} is cut off: it has {file.stat().st_size} bytes and its graph "
                f"needs {end}. Copy it again."
            )
    return tuple(sorted(ends))


def _load_constants(path: Path, proto: onnx.ModelProto) -> None:
    """Load small external tensors: shape inference, here and in engines, needs axes and shapes."""
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    for tensor in tensors(proto.graph):
        if uses_external_data(tensor) and math.prod(tensor.dims) <= KEEP_ELEMENTS:
            load_external_data_for_tensor(tensor, str(path.parent))
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")


def _refuse_reduced(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse a graph that is not fp32: precisions made from it would be mislabelled."""
    from onnx import TensorProto

    whole = {TensorProto.FLOAT, TensorProto.BOOL, TensorProto.STRING}
    whole |= {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}
    whole |= {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64}
    reduced = next((node.op_type for node in proto.graph.node if node.op_type in _QUANTISED), None)
    for tensor in proto.graph.initializer:
        if reduced is None and tensor.data_type not in whole and math.prod(tensor.dims) > 1:
            reduced = f"{TensorProto.DataType.Name(tensor.data_type).lower()} weights"
    if reduced is not None:
        raise ModelError(
            f"Model file {str(path)!r} is not an fp32 graph (it has {reduced}). Give the fp32 export; "
            "raybench makes the other precisions from it."
        )


def _refuse_inputs(path: Path, proto: onnx.ModelProto) -> None:
    from onnx import TensorProto

    if not proto.graph.input:
        raise ModelError(
            f"Model file {str(path)!r} has no inputs, so nothing can be streamed through it. Export it with its inputs."
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
