"""Source: what a model's name stands for, what that is made of, and whether it can be used."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ModelError, nearest
from raybench.models import zoo
from raybench.models.cache import sha256_of
from raybench.models.input_shapes import OpenInput, close_shapes, fixed_batch
from raybench.models.model import BATCH, TensorSpec
from raybench.models.onnxfile import OnnxFile
from raybench.models.ranges import index_limits, integer_ranges
from raybench.models.shape_inference import dims, infer, skeleton

if TYPE_CHECKING:
    import onnx

    from raybench.experiment import ModelSettings
    from raybench.models.recipe import Recipe


@dataclass(frozen=True)
class ModelSource:
    """A model before any precision: its fp32 graph and what may be fed to it.

    Attributes:
        proto: the graph with symbolic batch; external weights are not loaded.
        inputs: every dimension known but the batch.
        limits: number of valid indices of each input that looks up a table.
        file: where a user's graph lies; None for the zoo.
    """

    proto: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    limits: dict[str, int]
    file: OnnxFile | None


def resolve(name: str) -> Recipe | Path:
    """The zoo recipe or the file that a name stands for; raises ModelError for neither."""
    if name.endswith(".onnx") or "/" in name:
        return Path(name).expanduser()
    if name in zoo.RECIPES:
        return zoo.RECIPES[name]
    raise ModelError(
        f"Model {name!r} is not in the zoo. {nearest(name, zoo.names())} Any other model: export it to ONNX and give the path of the file."
    )


def identity(name: str, settings: ModelSettings) -> str:
    """What the model is made of, the same on every machine.

    "zoo:alexnet@1/seed=0" for the zoo; "sha256:..." over graph file, external data and given
    shapes for a file.
    """
    found = resolve(name)
    if not isinstance(found, Path):
        return f"zoo:{found.name}@{found.version}/seed={settings.seed}"
    total = hashlib.sha256(json.dumps(settings.shapes, sort_keys=True, default=list).encode())
    files = _files(found, *_stamp(found))
    if not all(file.is_file() for file in files):
        OnnxFile.open(found)  # says which one has gone
    for file in files:
        total.update(bytes.fromhex(_digest(file, *_stamp(file))))
    return f"sha256:{total.hexdigest()}"


def check(name: str, settings: ModelSettings) -> None:
    """Raise ModelError if the model cannot be used as it is told; builds nothing."""
    found = resolve(name)
    if isinstance(found, Path):
        _open_file(name, found, settings)
    else:
        _check_recipe(found, settings)


def open_source(name: str, settings: ModelSettings) -> ModelSource:
    """The fp32 graph behind a name: written for the zoo, read and closed for a file."""
    found = resolve(name)
    if isinstance(found, Path):
        return _open_file(name, found, settings)
    limits = _check_recipe(found, settings)
    return ModelSource(found.model(settings.seed), found.inputs, limits, None)


def _check_recipe(recipe: Recipe, settings: ModelSettings) -> dict[str, int]:
    if isinstance(settings.seed, bool) or settings.seed < 0:
        raise ModelError(
            f"model.seed={settings.seed!r} is not a seed. Give a whole number from 0 up."
        )
    for key in settings.shapes:
        raise ModelError(
            f"model.shapes.{key} does not apply: all shapes of {recipe.name!r} are fixed. Leave it out."
        )
    limits = {name: high + 1 for name, (_, high) in recipe.ranges.items()}
    integer_ranges(recipe.name, recipe.inputs, limits, settings.ranges)
    return limits


def _open_file(name: str, path: Path, settings: ModelSettings) -> ModelSource:
    file = OnnxFile.open(path)
    told = tuple(_open_input(value) for value in file.inputs)
    inputs = close_shapes(name, told, settings.shapes)
    limits = index_limits(file.proto, (spec.name for spec in inputs))
    integer_ranges(name, inputs, limits, settings.ranges)
    _close(file, inputs)
    batch = fixed_batch(told)
    if batch is not None:
        _refuse_stuck_batch(name, file.proto, batch)
    return ModelSource(file.proto, inputs, limits, file)


def _open_input(value: onnx.ValueInfoProto) -> OpenInput:
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return OpenInput(value.name, dtype.name, dims(value))


def _close(file: OnnxFile, inputs: tuple[TensorSpec, ...]) -> None:
    """Write the closed shapes into the graph; forget what it noted for another batch."""
    from onnx import helper

    graph = file.proto.graph
    for value, spec in zip(file.inputs, inputs, strict=True):
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(spec.name, kind, spec.shape))
    del graph.value_info[:]
    shapes = infer(skeleton(file.proto), batch=None)
    for value in graph.output:
        shape = shapes.get(value.name)
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shape))


def _refuse_stuck_batch(name: str, proto: onnx.ModelProto, batch: int) -> None:
    """A file with a fixed batch may carry that number inside too: try it with twice as many."""
    from onnx.shape_inference import InferenceError

    advice = f"Export it with a dynamic batch ({BATCH})."
    try:
        shapes = infer(skeleton(proto), batch=2 * batch, strict=True)
    except InferenceError as error:
        words = str(error).strip().splitlines()[-1]
        raise ModelError(
            f"Model {name!r} is fixed to batch {batch} and cannot take another ({words}). {advice}"
        ) from error
    for value in proto.graph.output:
        shape = shapes.get(value.name)
        if shape and isinstance(shape[0], int) and shape[0] != 2 * batch:
            raise ModelError(
                f"Model {name!r} is fixed to batch {batch}: output {value.name!r} keeps it whatever comes in. {advice}"
            )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        told = path.stat()
    except OSError:
        return (0, 0)  # opening it will say why
    return told.st_size, told.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _files(path: Path, _size: int, _mtime_ns: int) -> tuple[Path, ...]:
    return OnnxFile.open(path).files


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)
