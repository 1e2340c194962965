"""The source of a model: the recipe or file behind its name, its identity and its checks."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ModelError, nearest
from raybench.experiment import AS_IS
from raybench.models import zoo
from raybench.models.cache import sha256_of
from raybench.models.graph.onnxfile import OnnxFile, graph_files, understood
from raybench.models.graph.output_types import outputs_refusal
from raybench.models.graph.shape_inference import dims, infer, skeleton
from raybench.models.model import FileBatch, TensorSpec
from raybench.models.named import exports
from raybench.models.named.catalogue import PACKAGES, NamedModel
from raybench.models.provenance import Provenance
from raybench.models.seeds import check_seed
from raybench.models.shapes.input_shapes import close_shapes
from raybench.models.shapes.input_values import given_items, refuse_outside, refuse_senseless
from raybench.models.shapes.ranges import index_limits, integer_ranges, refuse_beyond
from raybench.models.shapes.shape_request import OpenInput
from raybench.models.state import read_state, refuse_wrong_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

    from raybench.experiment import ModelSettings
    from raybench.models.graph.shape_inference import Shape
    from raybench.models.state import StateTensor
    from raybench.models.weight_files import WeightFile
    from raybench.models.zoo import ZooRecipe


@dataclass(frozen=True)
class ModelSource:
    """A model's graph and its valid inputs.

    Attributes:
        proto: the graph with symbolic batch; external weights are not loaded.
        inputs: inputs; every dimension but the batch is a number.
        limits: number of valid indices of each input that indexes a table.
        file: the user's file; None for the zoo.
        file_batch: the batch that the file is fixed to; None if it is open.
        weights: of the zoo, which are still to be written; None where the graph holds them.
        ranges: lowest and highest value of the integer inputs that do not begin at any valid index.
    """

    proto: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    limits: dict[str, int]
    file: OnnxFile | None
    file_batch: FileBatch | None = None
    weights: WeightFile | None = None
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def provenance(self) -> Provenance | None:
        """What the export of a named model noted in its graph; None for any other."""
        return Provenance.read(self.proto)


@dataclass(frozen=True)
class CheckedModel:
    """What is known of a model before its graph is built.

    Attributes:
        inputs: inputs; every dimension but the batch is a number.
        limits: number of valid indices of each input that indexes a table.
        file_batch: the batch that the file is fixed to; None if it is open.
        macs_per_item: multiply-accumulates of its fp32 graph; None where they are unknown.
        notes: what is to be said of a named model: where its weights come from.
        state: inputs that the device keeps, and what renews them.
    """

    inputs: tuple[TensorSpec, ...]
    limits: dict[str, int]
    file_batch: FileBatch | None = None
    macs_per_item: int | None = None
    notes: tuple[str, ...] = ()
    state: tuple[StateTensor, ...] = ()


def resolve(name: str) -> ZooRecipe | Path | NamedModel:
    """Return the recipe, the file or the model of a package that a name means.

    Raises:
        ModelError: it is none of them.
    """
    named = NamedModel.parse(name)
    if named is not None:
        return named
    if name.endswith(".onnx") or "/" in name:
        return Path(name).expanduser()
    if name in zoo.RECIPES:
        return zoo.RECIPES[name]
    if os.path.isfile(name):
        raise ModelError(
            f"Model {name!r} is not in the zoo. For the file of that name write ./{name}."
        )
    raise ModelError(f"Model {name!r} is not in the zoo. {nearest(name, zoo.names())} {_OTHERS}")


_OTHERS = (
    f"Models of other packages: {', '.join(f'{prefix}:NAME' for prefix in PACKAGES)}. Any other: export it to "
    "ONNX and give the path of the file."
)


def _graph_file(name: str, settings: ModelSettings) -> tuple[Path, ModelSettings] | None:
    """Return the file of a model and the settings with which it is read; None for the zoo.

    The shapes of a named model are those of its export.
    """
    source = resolve(name)
    if isinstance(source, NamedModel):
        return exports.exported_file(source, settings), replace(settings, shapes={})
    return (source, settings) if isinstance(source, Path) else None


def model_file(name: str, settings: ModelSettings) -> Path | None:
    """Return the ONNX file of a model, exported first if need be; None for the zoo."""
    found = _graph_file(name, settings)
    return None if found is None else found[0]


def identity(name: str, settings: ModelSettings) -> str:
    """Return an id of the model's content that is the same on every machine.

    "zoo:alexnet@1/seed=0" for the zoo; "sha256:..." over graph file, external data and given
    shapes for a file; packages, weights and export for a named model.
    """
    source = resolve(name)
    if isinstance(source, NamedModel):
        return exports.identity(source, settings)
    if not isinstance(source, Path):
        lengths = ",".join(f"{axis}={tokens}" for axis, tokens in sorted(settings.shapes.items()))
        plain = f"zoo:{source.name}@{source.version}/seed={settings.seed}"
        return f"{plain}/{lengths}" if lengths else plain
    digest = hashlib.sha256(json.dumps(settings.shapes, sort_keys=True, default=list).encode())
    files = _files(source, *_stamp(source))
    if not all(map(os.path.isfile, files)):
        graph_files(source)  # raises an error that names the missing file
    for file in files:
        digest.update(bytes.fromhex(_digest(file, *_stamp(file))))
    return f"sha256:{digest.hexdigest()}"


def refuse_other(name: str, settings: ModelSettings, planned: str) -> None:
    """Refuse a named model that is not here what it was where the run was planned.

    Args:
        name: of the model; anything but a named model passes.
        settings: of the model.
        planned: its identity there.

    Raises:
        ModelError: packages or weights differ.
    """
    if NamedModel.parse(name) is not None and (here := identity(name, settings)) != planned:
        raise ModelError(
            f"Model {name!r} is {here} on {platform.node()}, and the run was planned with {planned}. Use the "
            "same packages, and the same HF_HOME and TORCH_HOME, for raybench and for its workers."
        )


def check(
    name: str, settings: ModelSettings, precisions: Iterable[str] = ("fp32",)
) -> CheckedModel:
    """Check that the model can be used with these settings and precisions; build nothing.

    Raises:
        ModelError: it cannot be used.
    """
    file = _graph_file(name, settings)
    if file is not None:
        opened = _open_file(name, *file, precisions)
        macs = _macs(opened.proto, opened.file_batch)
        notes = opened.provenance.notes if opened.provenance else ()
        state = read_state(opened.proto)
        return CheckedModel(opened.inputs, opened.limits, opened.file_batch, macs, notes, state)
    _refuse_precisions(name, None, precisions)
    recipe, limits = _check_recipe(zoo.RECIPES[name], settings)
    macs = _recipe_macs(name, tuple(sorted(recipe.lengths.items())))
    return CheckedModel(recipe.inputs, limits, macs_per_item=macs, state=recipe.state)


@functools.lru_cache(maxsize=16)
def _recipe_macs(name: str, lengths: tuple[tuple[str, int], ...]) -> int | None:
    return _macs(zoo.RECIPES[name].with_lengths(dict(lengths)).model(None), None)


def _macs(proto: onnx.ModelProto, file_batch: FileBatch | None) -> int | None:
    """Return the multiply-accumulates of an item; None where they cannot be counted."""
    from raybench.models.graph.macs import count

    try:
        macs = count(proto).macs_per_item
    except Exception:  # noqa: BLE001 - an estimate of time refuses no model
        return None
    fixed = file_batch is not None and file_batch.why is not None
    return macs // file_batch.size if macs and fixed and file_batch else macs


def declared_inputs(name: str) -> tuple[OpenInput, ...]:
    """Return the inputs of a file or named model with the sizes that are open; none for the zoo."""
    path = resolve(name)
    if isinstance(path, NamedModel):
        return exports.describe(path).inputs
    if not isinstance(path, Path):
        return ()
    with understood(path):
        return tuple(_open_input(value) for value in OnnxFile.open(path).inputs)


def open_source(name: str, settings: ModelSettings, precision: str = "fp32") -> ModelSource:
    """Return the graph of a name that a precision is made of: a recipe's, or read from a file.

    It computes in fp32, but for `as_is` and for precisions that a recipe writes itself.
    """
    file = _graph_file(name, settings)
    if file is not None:
        return _open_file(name, *file, (precision,))
    recipe, limits = _check_recipe(zoo.RECIPES[name].in_precision(precision), settings)
    weights = recipe.weight_file(settings.seed)
    proto = recipe.model(settings.seed if weights is None else None)
    begin = {name: ends for name, ends in recipe.ranges.items() if ends != (0, limits[name] - 1)}
    return ModelSource(proto, recipe.inputs, limits, None, weights=weights, ranges=begin)


def _check_recipe(recipe: ZooRecipe, settings: ModelSettings) -> tuple[ZooRecipe, dict[str, int]]:
    """Return a recipe at the lengths among the given shapes, and the limits of its integer inputs."""
    check_seed(settings.seed)
    for key in settings.shapes:
        if key not in recipe.lengths:
            raise ModelError(
                f"model.shapes.{key} does not apply: all shapes of {recipe.name!r} are fixed. Leave it out."
            )
    sized = recipe.with_lengths(settings.shapes)
    refuse_beyond(sized.name, sized.ranges, settings.ranges)
    _check_values(sized.name, sized.inputs, sized.limits, settings)
    return sized, sized.limits


def _check_values(
    name: str, inputs: tuple[TensorSpec, ...], limits: dict[str, int], settings: ModelSettings
) -> None:
    """Refuse ranges and values that do not fit the inputs."""
    integer_ranges(name, inputs, limits, settings.ranges)
    given = given_items(name, inputs, settings.values)
    refuse_outside(name, given, limits, settings.ranges)
    if not settings.inputs:  # files hold all inputs that have no value
        refuse_senseless(name, inputs, {*limits, *settings.ranges, *given})


def _open_file(
    name: str, path: Path, settings: ModelSettings, precisions: Iterable[str]
) -> ModelSource:
    with understood(path):
        file = OnnxFile.open(path)
        _refuse_precisions(name, file, precisions)
        return _source_of(name, file, settings)


def _refuse_precisions(name: str, file: OnnxFile | None, precisions: Iterable[str]) -> None:
    """Refuse to convert a graph that comes reduced, and to run an fp32 graph under another name."""
    asked = list(precisions)
    reduced = file.types.first if file else None
    wrong = [precision for precision in asked if (precision == AS_IS) == (reduced is None)]
    if not wrong:
        return
    advice = "."
    if len(wrong) < len(asked):
        rule = f"exclude=[{{model: {name}, precision: [{', '.join(wrong)}]}}]"
        advice = f"; in a grid with other models, set {shlex.quote(rule)}."
    if file is None or reduced is None:
        unfit = None if file is None else outputs_refusal(name, file.proto)
        raise ModelError(
            f"Model {name!r} computes in fp32, and precision={AS_IS} is for files that come in a "
            f"reduced precision. {unfit or f'Use precision=fp32{advice}'}"
        )
    raise ModelError(
        f"Model file {str(file.path)!r} is not an fp32 graph: {reduced.in_words}. Give the fp32 "
        "export, from which raybench makes the other precisions, or run the file as it is by "
        f"precision={AS_IS}{advice}"
    )


def _source_of(name: str, file: OnnxFile, settings: ModelSettings) -> ModelSource:
    open_inputs = tuple(_open_input(value) for value in file.inputs)
    closed = close_shapes(name, open_inputs, settings.shapes)
    inputs = closed.inputs
    limits = index_limits(file.proto, (spec.name for spec in inputs))
    _check_values(name, inputs, limits, settings)
    _close(file, inputs)
    refuse_wrong_state(name, file.proto)
    if closed.fixed is None:
        noted = Provenance.read(file.proto)
        return ModelSource(file.proto, inputs, limits, file, ranges=noted.ranges if noted else {})
    batch = FileBatch(closed.fixed, _why_fixed(file.proto, inputs, closed.fixed))
    if batch.why is not None:
        inputs = tuple(replace(spec, shape=spec.with_batch(batch.size)) for spec in inputs)
        _close(file, inputs)
    return ModelSource(file.proto, inputs, limits, file, batch)


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


def _why_fixed(proto: onnx.ModelProto, inputs: tuple[TensorSpec, ...], batch: int) -> str | None:
    """Return why a graph takes no batch but one; None if shapes agree at twice the batch, too."""
    if all(spec.batch_axis is None for spec in inputs):
        return "its inputs have no batch in common"
    bare = skeleton(proto)
    try:
        once, twice = (infer(bare, batch=n * batch, strict=n == 2) for n in (1, 2))
    except Exception as error:  # noqa: BLE001 - whatever the library raises on what it cannot follow
        return (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip(".")
    batched = _reached(proto.graph, {spec.name for spec in inputs if spec.batch_axis is not None})
    for value in proto.graph.output:
        if value.name not in batched:
            continue
        before, after = once.get(value.name), twice.get(value.name)
        if before and after and not _grows(before, after, batch):
            return f"output {value.name!r} keeps it whatever the input"
    return None


def _reached(graph: onnx.GraphProto, names: set[str]) -> set[str]:
    """Return the values that are computed from some values, or may be."""
    for node in graph.node:  # ONNX keeps nodes in topological order
        inner = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if inner or not names.isdisjoint(node.input):
            names = names.union(node.output)
    return names


def _grows(before: Shape, after: Shape, batch: int) -> bool:
    """Return whether an output has twice the items at twice the batch, or may have.

    A first dimension that is the batch must follow it: else items became features, [4, 8] to [4, 16].
    """
    if len(before) != len(after) or not all(isinstance(new, int) for new in after):
        return True
    pairs = list(zip(before, after, strict=True))
    old, new = pairs[0]
    if old == batch or new != old:
        return isinstance(old, int) and new == 2 * old
    return (batch, 2 * batch) in pairs


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)  # opening the file raises an error that says why
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=64)
def _files(path: Path, _size: int, _mtime_ns: int) -> tuple[Path, ...]:
    return graph_files(path)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_of(path)
