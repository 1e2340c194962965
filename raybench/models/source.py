"""The source of a model: the recipe or file behind its name, its identity and its checks."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ModelError, nearest
from raybench.experiment import AS_IS
from raybench.models import zoo
from raybench.models.cache import sha256_of
from raybench.models.input_shapes import OpenInput, close_shapes, fixed_batch
from raybench.models.input_values import given_items, refuse_outside
from raybench.models.model import BATCH, TensorSpec
from raybench.models.onnxfile import OnnxFile, understood
from raybench.models.ranges import index_limits, integer_ranges
from raybench.models.shape_inference import dims, infer, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

    from raybench.experiment import ModelSettings
    from raybench.models.recipe import Recipe

_NOTHING_REDUCED = (
    f"computes in fp32, and precision={AS_IS} is for files that come in a reduced precision. "
    "Use precision=fp32."
)


@dataclass(frozen=True)
class ModelSource:
    """A model's graph and its valid inputs.

    Attributes:
        proto: the graph with symbolic batch; external weights are not loaded.
        inputs: inputs; every dimension but the batch is a number.
        limits: number of valid indices of each input that indexes a table.
        file: the user's file; None for the zoo.
    """

    proto: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    limits: dict[str, int]
    file: OnnxFile | None


def resolve(name: str) -> Recipe | Path:
    """Return the zoo recipe or the file that a name means; raises ModelError if it is neither."""
    if name.endswith(".onnx") or "/" in name:
        return Path(name).expanduser()
    if name in zoo.RECIPES:
        return zoo.RECIPES[name]
    raise ModelError(
        f"Model {name!r} is not in the zoo. {nearest(name, zoo.names())} Any other model: export it to ONNX and give the path of the file."
    )


def identity(name: str, settings: ModelSettings) -> str:
    """Return an id of the model's content that is the same on every machine.

    "zoo:alexnet@1/seed=0" for the zoo; "sha256:..." over graph file, external data and given
    shapes for a file.
    """
    source = resolve(name)
    if not isinstance(source, Path):
        return f"zoo:{source.name}@{source.version}/seed={settings.seed}"
    digest = hashlib.sha256(json.dumps(settings.shapes, sort_keys=True, default=list).encode())
    files = _files(source, *_stamp(source))
    if not all(file.is_file() for file in files):
        OnnxFile.open(source)  # raises an error that names the missing file
    for file in files:
        digest.update(bytes.fromhex(_digest(file, *_stamp(file))))
    return f"sha256:{digest.hexdigest()}"


def check(
    name: str, settings: ModelSettings, precisions: Iterable[str] = ("fp32",)
) -> tuple[tuple[TensorSpec, ...], dict[str, int]]:
    """Check that the model can be used with these settings and precisions; build nothing.

    Returns:
        The inputs, and the number of valid indices of each input that indexes a table.

    Raises:
        ModelError: it cannot be used.
    """
    source = resolve(name)
    if isinstance(source, Path):
        opened = _open_file(name, source, settings, precisions)
        return opened.inputs, opened.limits
    if AS_IS in precisions:
        raise ModelError(f"Model {name!r} {_NOTHING_REDUCED}")
    return source.inputs, _check_recipe(source, settings)


def open_source(name: str, settings: ModelSettings, precision: str = "fp32") -> ModelSource:
    """Return the graph of a name that a precision is made of: a recipe's, or read from a file.

    It computes in fp32, but for the precision `as_is`.
    """
    source = resolve(name)
    if isinstance(source, Path):
        return _open_file(name, source, settings, (precision,))
    limits = _check_recipe(source, settings)
    return ModelSource(source.model(settings.seed), source.inputs, limits, None)


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
    _check_values(recipe.name, recipe.inputs, limits, settings)
    return limits


def _check_values(
    name: str, inputs: tuple[TensorSpec, ...], limits: dict[str, int], settings: ModelSettings
) -> None:
    """Refuse ranges and values that do not fit the inputs."""
    integer_ranges(name, inputs, limits, settings.ranges)
    given = given_items(name, inputs, settings.values)
    refuse_outside(name, given, limits, settings.ranges)


def _open_file(
    name: str, path: Path, settings: ModelSettings, precisions: Iterable[str]
) -> ModelSource:
    with understood(path):
        file = OnnxFile.open(path)
        for precision in precisions:
            _refuse_precision(name, file, precision)
        return _source_of(name, file, settings)


def _refuse_precision(name: str, file: OnnxFile, precision: str) -> None:
    """Refuse to convert a graph that comes reduced, and to run an fp32 graph under another name."""
    reduced = file.types.first
    if reduced is None and precision == AS_IS:
        raise ModelError(f"Model {name!r} {_NOTHING_REDUCED}")
    if reduced is not None and precision != AS_IS:
        raise ModelError(
            f"Model file {str(file.path)!r} is not an fp32 graph: {reduced.in_words}. Give the fp32 "
            "export, from which raybench makes the other precisions, or run the file as it is by "
            f"precision={AS_IS}."
        )


def _source_of(name: str, file: OnnxFile, settings: ModelSettings) -> ModelSource:
    open_inputs = tuple(_open_input(value) for value in file.inputs)
    inputs = close_shapes(name, open_inputs, settings.shapes)
    limits = index_limits(file.proto, (spec.name for spec in inputs))
    _check_values(name, inputs, limits, settings)
    _close(file, inputs)
    batch = fixed_batch(open_inputs)
    if batch is not None:
        _refuse_fixed_batch(name, file.proto, batch)
    return ModelSource(file.proto, inputs, limits, file)


def _open_input(value: onnx.ValueInfoProto) -> OpenInput:
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return OpenInput(value.name, dtype.name, dims(value))


def _close(file: OnnxFile, inputs: tuple[TensorSpec, ...]) -> None:
    """Write the closed shapes into the graph; remove shapes noted for another batch."""
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


def _refuse_fixed_batch(name: str, proto: onnx.ModelProto, batch: int) -> None:
    """Refuse a file whose nodes contain its fixed batch, by inferring shapes at twice the batch."""
    from onnx.shape_inference import InferenceError

    advice = f"Export it with a dynamic batch ({BATCH})."
    try:
        shapes = infer(skeleton(proto), batch=2 * batch, strict=True)
    except InferenceError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(
            f"Model {name!r} is fixed to batch {batch} and cannot take another ({reason}). {advice}"
        ) from error
    for value in proto.graph.output:
        shape = shapes.get(value.name)
        if shape and isinstance(shape[0], int) and shape[0] != 2 * batch:
            raise ModelError(
                f"Model {name!r} is fixed to batch {batch}: output {value.name!r} keeps it whatever the input. {advice}"
            )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)  # opening the file raises an error that says why
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _files(path: Path, _size: int, _mtime_ns: int) -> tuple[Path, ...]:
    return OnnxFile.open(path).files


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)
