"""Preparing a model: from its name and a precision to a graph in this node's cache, built once."""

from __future__ import annotations

import functools
from dataclasses import asdict, astuple, dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from raybench.experiment import AS_IS, QUANTISED
from raybench.models.cache import Cache, key_of
from raybench.models.conversion import Conversion, Fp32Graph
from raybench.models.graph import normal_form
from raybench.models.graph.external_data import copy_external
from raybench.models.graph.graph_types import graph_types
from raybench.models.graph.graph_walk import drawn
from raybench.models.graph.memory_use import table_parameters
from raybench.models.graph.output_types import refuse_outputs
from raybench.models.graph.shape_inference import dims
from raybench.models.graph.tensor_sizes import stored_bytes
from raybench.models.items.input_files import given_digest, given_inputs
from raybench.models.model import FileBatch, Model, TensorSpec
from raybench.models.passes import precision as passes
from raybench.models.passes.int8_fp16 import Int8Parts
from raybench.models.shapes import input_shapes
from raybench.models.shapes.ranges import integer_ranges
from raybench.models.source import identity, open_source
from raybench.models.state import StateTensor, read_kept_outputs, read_state
from raybench.models.written_precision import written_facts, written_precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from raybench.experiment import ModelSettings
    from raybench.models.cache import CacheEntry
    from raybench.models.graph.macs import Counts
    from raybench.models.source import ModelSource

VERSION = 1
"""Incremented when the same source gives another fp32 graph or other facts."""
FACTS = 4
"""Incremented when there are more facts of a source; its graph and its place in the cache stay."""

_GRAPH = "model.onnx"


def prepare(
    name: str,
    settings: ModelSettings,
    precision: str,
    dialect: str | None,
    cache_dir: Path,
    rewrite_lrn: bool = False,
) -> Model:
    """Return the model in one precision, from the cache or built into it.

    Args:
        name: a zoo name, the path of an ONNX file, or a model of a package such as "timm:resnet18".
        settings: shapes, ranges and seed of the model.
        precision: one of `PRECISIONS`; tf32 has the fp32 graph.
        dialect: "s8s8", "u8s8" or "u8s7" for int8 and int8_fp16; "native" for bf16 that the engine itself derives from
            the fp32 graph; ignored for the others.
        cache_dir: the node's cache, from `cache_dir()`.
        rewrite_lrn: replace LRN by ops that ONNX Runtime runs faster; graphs with fp16, which ONNX
            Runtime casts back, keep LRN.

    Raises:
        ModelError: the model cannot be used with these settings.
        Unsupported: no pass makes this precision, or an output is no tensor of numbers.
    """
    passes.refuse(precision, dialect)
    cache = Cache(cache_dir / "models")
    source_id = identity(name, settings)
    written = written_precision(name, settings, precision)
    kind = precision if precision == AS_IS or written.alone else "fp32"
    base_key = key_of(kind=kind, version=VERSION, identity=source_id)
    revision = _revision(source_id)
    build = functools.partial(_build_source, name, settings, kind, cache)
    base = cache.entry(base_key, build, revision)
    fp32 = _fp32_model(name, settings, base)
    dialect = dialect if precision in (*QUANTISED, "bf16") else None
    key, entry, conversion = base_key, base, Conversion()
    if written.by_recipe:
        key = key_of(kind=precision, version=VERSION, identity=source_id)
        build = functools.partial(_build_source, name, settings, precision, cache)
        entry = cache.entry(key, build, revision)
        conversion = Conversion.from_facts(entry.facts)
        fp32 = replace(fp32, no_reference=written.no_reference, **_ends(entry))
    elif precision not in passes.OF_SOURCE:
        revision = f"{revision} passes {passes.REVISION}"
        reduced = _Reduced(cache, base_key, fp32, settings, revision)
        key, entry = reduced.key(precision, dialect), reduced.entry(precision, dialect)
        conversion = Conversion.from_facts(entry.facts)
    if rewrite_lrn and base.facts["has_lrn"] and precision not in ("fp16", "int8_fp16", AS_IS):
        # last, so that none of the new nodes is quantised
        key = key_of(kind="lrn", version=VERSION, source=key)
        entry = cache.entry(key, functools.partial(_build_lrn, entry, precision), revision)
    return replace(
        fp32,
        precision=precision,
        dialect=dialect,
        path=entry.folder / _GRAPH,
        sha256=entry.sha256,
        conversion=conversion,
        **_types(precision, entry),
    )


@dataclass(frozen=True)
class _Reduced:
    """The reduced graphs of a model, in the cache.

    Attributes:
        cache: of the node.
        base_key: key of the fp32 graph's entry.
        fp32: the model in fp32.
        settings: shapes, ranges and seed of the model.
        revision: of the code that makes the graphs.
    """

    cache: Cache
    base_key: str
    fp32: Model
    settings: ModelSettings
    revision: str

    def key(self, precision: str, dialect: str | None) -> str:
        """Return the key of a graph, which depends on the items that calibrate or check it."""
        given = given_digest(self.settings)
        calibrated = precision in QUANTISED
        return key_of(
            kind=precision,
            version=passes.VERSION,
            source=self.base_key,
            dialect=dialect,
            ranges=self.fp32.ranges if calibrated else self.settings.ranges or None,
            onnxruntime=metadata.version("onnxruntime"),
            **({"given": given} if given else {}),
        )

    def entry(self, precision: str, dialect: str | None) -> CacheEntry:
        """Return the entry of a graph, built first if it is missing."""
        build = functools.partial(self._build, precision, dialect)
        return self.cache.entry(self.key(precision, dialect), build, self.revision)

    def _build(self, precision: str, dialect: str | None, folder: Path) -> dict[str, Any]:
        """Write a graph and return how it was made and what it computes in."""
        fp32 = self.fp32
        given = given_inputs(fp32.name, self.settings, fp32.inputs)
        source = Fp32Graph(
            fp32.path, fp32.inputs, fp32.ranges, fp32.softmax_outputs, given, fp32.drawn_outputs
        )
        parts = self._parts(dialect) if precision == "int8_fp16" else None
        with self.cache.hold(self.base_key):  # passes write temporary files beside the source
            made = passes.convert(precision, dialect, source, folder / _GRAPH, parts)
        return {**asdict(made), **_proven(precision, folder, made.kept_fp32_ops)}

    def _parts(self, dialect: str | None) -> Int8Parts:
        """Return what an int8_fp16 graph is made of: the graphs that rows of int8 and fp16 run."""
        int8, fp16 = self.entry("int8", dialect), self.entry("fp16", None)
        made = (Conversion.from_facts(each.facts) for each in (int8, fp16))
        return Int8Parts(int8.folder / _GRAPH, *made)


def _ends(entry: CacheEntry) -> dict[str, Any]:
    """Return inputs and outputs of a graph, whose types follow its precision, as fields of `Model`."""
    return {name: _specs(entry.facts[name]) for name in ("inputs", "outputs")}


def _revision(source_id: str) -> str:
    """Return the revision of the code that reads a source; the zoo is written in normal form."""
    of_files = f"form {normal_form.VERSION} shapes {input_shapes.VERSION} "
    return f"{'' if source_id.startswith('zoo:') else of_files}facts {FACTS}"


def _types(precision: str, entry: CacheEntry) -> dict[str, Any]:
    """Return what a model's graph computes in, as fields of `Model`."""
    stored = entry.facts.get("weight_bytes")
    if precision in passes.OF_FP32:  # what an engine reduces by itself stands in no graph
        reduced = () if precision == "fp32" else None
        return {"reduced_ops": reduced, "quantised_macs_frac": 0.0, "weight_bytes": stored}
    notes = tuple(entry.facts.get("type_notes", ()))
    ops, frac = entry.facts.get("reduced_ops"), entry.facts.get("quantised_macs_frac")
    found = None if ops is None else tuple(ops)
    return {
        "reduced_ops": found,
        "quantised_macs_frac": frac,
        "type_notes": notes,
        "weight_bytes": stored,
    }


def _proven(precision: str, folder: Path, kept: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the graph in a folder computes in, as facts; raise Unsupported if in another type."""
    import onnx

    graph = onnx.load(folder / _GRAPH, load_external_data=False)
    types = graph_types(graph)
    passes.refuse_unproven(precision, types, kept)
    return {**types.facts, "weight_bytes": stored_bytes(graph)}


def _fp32_model(name: str, settings: ModelSettings, base: CacheEntry) -> Model:
    """Return the model of a cache entry that was built from the source."""
    path = base.folder / _GRAPH
    inputs = _specs(base.facts["inputs"])
    own_ranges = {**base.facts.get("ranges", {}), **settings.ranges}
    return Model(
        name=name,
        precision="fp32",
        dialect=None,
        path=path,
        sha256=base.sha256,
        inputs=inputs,
        outputs=_specs(base.facts["outputs"]),
        parameters=base.facts["parameters"],
        macs_per_item=base.facts["macs_per_item"],
        fp32_path=path,
        fp32_sha256=base.sha256,
        softmax_outputs=frozenset(base.facts["softmax_outputs"]),
        ranges=integer_ranges(name, inputs, base.facts["limits"], own_ranges),
        file_batch=FileBatch(*fixed) if (fixed := base.facts.get("file_batch")) else None,
        uncounted=tuple(base.facts.get("uncounted", ())),
        drawn_outputs=frozenset(base.facts.get("drawn_outputs", ())),
        state=tuple(StateTensor(**one) for one in base.facts.get("state", ())),
        kept_outputs=frozenset(base.facts.get("kept_outputs", ())),
        source_notes=tuple(base.facts.get("source_notes", ())),
        table_parameters=base.facts.get("table_parameters"),
        activations=base.facts.get("activations"),
    )


def _build_source(
    name: str, settings: ModelSettings, kind: str, cache: Cache, folder: Path
) -> dict[str, Any]:
    """Write the graph of a source, in fp32 or as it is, and return its facts."""
    from raybench.models.graph.macs import count

    source = open_source(name, settings, kind)
    refuse_outputs(name, source.proto)
    counts = count(source.proto)
    if source.file is not None:
        copy_external(source.file.path, source.proto, folder)
    if source.weights is not None:
        key = key_of(kind="weights", version=VERSION, identity=source.weights.identity)
        shared = cache.entry(key, source.weights.write)
        source.weights.place(source.proto, shared.folder, folder)
    _write(source.proto, folder)
    return {
        "inputs": [[spec.name, spec.dtype, spec.shape] for spec in source.inputs],
        "outputs": [_output(value) for value in source.proto.graph.output],
        "parameters": source.weights.elements if source.weights else counts.parameters,
        "macs_per_item": _per_item(counts.macs_per_item, source),
        "table_parameters": _table_parameters(source, counts),
        "activations": _per_item(counts.memory.activations, source),
        "weight_bytes": stored_bytes(source.proto),
        "limits": source.limits,
        "softmax_outputs": _softmax_outputs(source.proto.graph),
        **_drawn_outputs(source.proto.graph),
        **_on_device(source.proto),
        "has_lrn": any(node.op_type == "LRN" for node in source.proto.graph.node),
        **({"uncounted": counts.unknown} if counts.unknown else {}),
        **({"file_batch": astuple(source.file_batch)} if source.file_batch else {}),
        **({"ranges": source.ranges} if source.ranges else {}),
        **(graph_types(source.proto).facts if kind == AS_IS else {}),
        **(written_facts(source.proto, kind) if kind not in ("fp32", AS_IS) else {}),
        **_provenance(source),
    }


def _table_parameters(source: ModelSource, counts: Counts) -> int:
    """Return the parameters in tables; what a recipe holds beside its weights, such as angles, is none."""
    if source.weights is None:
        return counts.memory.table_parameters
    return table_parameters(source.proto, {weight.name for weight in source.weights.weights})


def _on_device(proto: onnx.ModelProto) -> dict[str, Any]:
    """Return which inputs and outputs stay on the device, as facts; nothing where none does."""
    facts = {
        "state": [asdict(one) for one in read_state(proto)],
        "kept_outputs": sorted(read_kept_outputs(proto)),
    }
    return {name: value for name, value in facts.items() if value}


def _provenance(source: ModelSource) -> dict[str, Any]:
    """Return what a row must say of a named model, as a fact; nothing for any other."""
    return {"source_notes": source.provenance.notes} if source.provenance else {}


def _per_item(count: int | None, source: ModelSource) -> int | None:
    """Return a count of one item, counted on a graph that may take only a whole batch."""
    if count is None or source.file_batch is None or source.file_batch.why is None:
        return count
    return count // source.file_batch.size


def _build_lrn(source: CacheEntry, precision: str, folder: Path) -> dict[str, Any]:
    import onnx

    from raybench.models.passes.lrn import rewrite_lrn

    model = onnx.load(source.folder / _GRAPH, load_external_data=False)
    rewrite_lrn(model)
    copy_external(source.folder / _GRAPH, model, folder)
    _write(model, folder)
    kind = "fp32" if precision in passes.OF_FP32 else precision
    return _proven(kind, folder)


def _write(model: onnx.ModelProto, folder: Path) -> None:
    (folder / _GRAPH).write_bytes(model.SerializeToString(deterministic=True))


def _specs(facts: list[list[Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in facts)


def _output(value: onnx.ValueInfoProto) -> list[Any]:
    """Return name, dtype and shape of an output; "?" for a size missing in the graph."""
    from onnx import helper

    kind = value.type.tensor_type.elem_type
    dtype = helper.tensor_dtype_to_np_dtype(kind).name if kind else "unknown"
    return [value.name, dtype, ["?" if dim is None else dim for dim in dims(value) or ()]]


def _drawn_outputs(graph: onnx.GraphProto) -> dict[str, Any]:
    """Return the outputs that follow from random numbers, as a fact; nothing if there are none."""
    values = drawn(graph)
    names = [value.name for value in graph.output if value.name in values]
    return {"drawn_outputs": names} if names else {}


def _softmax_outputs(graph: onnx.GraphProto) -> list[str]:
    producers = {output: node for node in graph.node for output in node.output}
    names = []
    for value in graph.output:
        node = producers.get(value.name)
        while node is not None and node.op_type in ("Identity", "Cast"):
            node = producers.get(node.input[0])
        if node is not None and node.op_type == "Softmax":
            names.append(value.name)
    return names
