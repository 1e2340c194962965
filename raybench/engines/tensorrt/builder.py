"""Building a plan from an ONNX file: the only module that uses TensorRT's builder and parser.

One code path serves 8.6, 10, 11 and TensorRT for RTX: it queries the library for what differs, and makes masks from
its own enumerations, because their numbers changed between versions.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from raybench.engines.tensorrt import build_progress, failures, library, targets
from raybench.errors import EngineUnavailable, Unsupported
from raybench.experiment import AS_IS
from raybench.models.conversion import UNTYPED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from raybench.engines.base import Load
    from raybench.engines.tensorrt.build_progress import BuildProgress

Shape = tuple[int, ...]
_UNNAMED = "(Unnamed Layer"
INT8_REST = ("graph", "tf32", "fp16")
"""What layers outside Q/DQ may compute in under weak typing; the graph's own type is fp32."""


@dataclass(frozen=True)
class Order:
    """Everything that decides a plan, except the library and the GPU.

    The names of the fields are part of the plans' keys: renaming one rebuilds every plan.

    Attributes:
        onnx_path: the graph; its external data is in the same folder.
        onnx_sha256: hash of graph and external data.
        precision: fp32, tf32, fp16, bf16, int8, int8_fp16, fp8 or as_is.
        shapes: lowest, best and highest shape of each input; all the same for a static plan.
        workspace_bytes: most scratch memory of a layer; None for all of the device.
        optimization_level: 0 to 5.
        avg_timing: how often each tactic is timed.
        jit_convolutions: whether to try convolutions that the builder compiles on the spot.
        int8_rest: what layers outside the Q/DQ of precision int8 may use under weak typing, one of
            `INT8_REST`.
        version_compatible: whether the lean and the dispatch runtime can run the plan, too.
        detailed: whether the plan keeps the layers' names and tactics.
        fp32_layers: layers that compute in fp32 in an fp16 graph; the graph's hash stands for them.
        target: compute capabilities that TensorRT for RTX builds for; the facts of the GPU hold it.
    """

    onnx_path: Path
    onnx_sha256: str
    precision: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]
    workspace_bytes: int | None
    optimization_level: int
    avg_timing: int
    jit_convolutions: bool = True
    int8_rest: str = "graph"
    version_compatible: bool = False
    detailed: bool = True
    fp32_layers: tuple[str, ...] = ()
    target: str = targets.PORTABLE

    def facts(self) -> dict[str, Any]:
        """Return what belongs into the plan's key: every field that nothing else there decides."""
        facts = asdict(self)
        del facts["onnx_path"], facts["fp32_layers"], facts["target"]
        return facts


@dataclass(frozen=True)
class Built:
    """Result of a build.

    Attributes:
        plan: serialised plan.
        build_s: seconds from parsing to the end.
        timing_cache: what the builder has learnt, merged with what it was given; None without.
    """

    plan: bytes
    build_s: float
    timing_cache: bytes | None


def order_of(load: Load) -> Order:
    """Return the order of a load's plan.

    Raises:
        Unsupported: the batch is larger than the dynamic plan allows, or two options contradict.
    """
    options, batch_size = load.options, load.batches.batch_size
    if load.model.precision == "int8_fp16" and options.int8_rest != "graph":
        raise Unsupported(
            f"int8_rest={options.int8_rest} is for precision=int8: outside Q/DQ int8_fp16 is fp16. "
            "Leave engine.int8_rest out."
        )
    largest = options.largest_batch
    if largest is not None and batch_size > largest:
        raise Unsupported(
            f"batch_size={batch_size} is above largest_batch={largest} of the dynamic plan. "
            "Raise largest_batch."
        )
    lowest, best, highest = batch_size, batch_size, batch_size
    if largest is not None:
        lowest, best, highest = 1, options.best_batch or largest, largest
    workspace = None if options.workspace_mib is None else options.workspace_mib << 20
    bounds = [size for size in (workspace, load.memory_limit_bytes) if size is not None]
    return Order(
        onnx_path=load.model.path,
        onnx_sha256=load.model.sha256,
        precision=load.model.precision,
        shapes={
            spec.name: (spec.with_batch(lowest), spec.with_batch(best), spec.with_batch(highest))
            for spec in load.model.inputs
        },
        workspace_bytes=min(bounds, default=None),
        optimization_level=options.optimization_level,
        avg_timing=options.timing_rounds,
        int8_rest=options.int8_rest,
        jit_convolutions=options.jit_convolutions,
        version_compatible=options.version_compatible,
        fp32_layers=load.model.conversion.fp32_nodes,
        target=targets.of(options, load.device),
    )


def strongly_typed(trt: Any) -> bool:
    """Return whether the graph's own types decide (10 and later), not builder flags (8.6)."""
    return library.api(trt) >= 10


def flags(trt: Any, order: Order) -> tuple[set[str], set[str]]:
    """Return the names of the builder flags to set and to clear for a precision.

    Raises:
        Unsupported: this version lacks the precision.
    """
    on: set[str] = set()
    off: set[str] = set()
    tf32 = order.precision == "tf32" or (order.precision, order.int8_rest) == ("int8", "tf32")
    (on if tf32 else off).add("TF32")  # on by default in every version
    if order.version_compatible:
        on |= {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
    if library.is_rtx(trt):
        on.add("REQUIRE_USER_ALLOCATION")  # else a batch that allocates could not be captured
    if strongly_typed(trt):
        return on, off
    weak = {"fp32": set(), "tf32": set(), "fp16": {"FP16"}, "int8": {"INT8"}}
    weak["int8_fp16"] = weak["int8"] | weak["fp16"]
    if order.precision == AS_IS:
        raise Unsupported(
            f"TensorRT {trt.__version__} chooses types by itself, so no graph runs {AS_IS}. "
            "Use TensorRT 10 or newer."
        )
    if order.precision not in weak:
        raise Unsupported(
            f"TensorRT {trt.__version__} has no {order.precision} convolutions. "
            "Use TensorRT 10 or newer, or another precision."
        )
    on |= weak[order.precision]
    if order.precision == "int8" and order.int8_rest == "fp16":
        on.add("FP16")
    return on, off


def _graph(trt: Any, order: Order) -> Path:
    """Return the file to parse: 8.6 reads half scales as fp32, so it gets Q/DQ in fp32 types."""
    untyped = order.precision == "int8_fp16" and not strongly_typed(trt)
    return order.onnx_path.with_name(UNTYPED) if untyped else order.onnx_path


def available(trt: Any) -> bool:
    """Return whether this library can build; the lean and the dispatch runtime cannot."""
    return hasattr(trt, "Builder")


def build(
    trt: Any, order: Order, timing_cache: bytes | None, progress: BuildProgress | None = None
) -> Built:
    """Build the plan on the current device, which only TensorRT for RTX can do without.

    Args:
        trt: the full library.
        order: what to build.
        timing_cache: result of an earlier build; b"" to start one, None to do without.
        progress: receives the builder's phases.

    Raises:
        EngineUnavailable: the library has no builder.
        PointError: the plan does not fit, is not supported or is refused.
    """
    if not available(trt):
        raise EngineUnavailable(
            f"{trt.__name__} runs plans but cannot build them. Install the full tensorrt, or copy "
            "plans that were built for this GPU into the cache."
        )
    on, off = flags(trt, order)
    logger, journal = library.logger(trt)
    began = time.perf_counter()
    builder = trt.Builder(logger)
    network = builder.create_network(_creation_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(_graph(trt, order))):
        errors = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise failures.of_parser(errors, journal.lines())
    if not strongly_typed(trt) and _hold_fp32(trt, network, order.fp32_layers):
        on.add("OBEY_PRECISION_CONSTRAINTS")
    config = _configure(trt, builder, order, on, off)
    _set_shapes(builder, network, config, order)
    cache = None
    if timing_cache is not None:
        cache = config.create_timing_cache(timing_cache) or config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    if progress is not None:
        build_progress.attach(trt, config, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise failures.of_library("build", journal.lines(), "build a plan")
    learnt = None if cache is None else bytes(config.get_timing_cache().serialize())
    return Built(bytes(plan), time.perf_counter() - began, learnt)


def merge_timing(trt: Any, ours: bytes, theirs: bytes) -> bytes:
    """Merge two timing caches; returns ours alone if theirs is of another library or device."""
    logger, _ = library.logger(trt)
    builder = trt.Builder(logger)
    config = builder.create_builder_config()
    cache = config.create_timing_cache(ours)
    other = config.create_timing_cache(theirs)
    if not (cache and other and cache.combine(other, False)):
        return ours
    return bytes(cache.serialize())


def _creation_flags(trt: Any) -> int:
    kinds = trt.NetworkDefinitionCreationFlag
    major = library.api(trt)
    if major < 10:
        return 1 << int(kinds.EXPLICIT_BATCH)
    return 1 << int(kinds.STRONGLY_TYPED) if major == 10 else 0  # 11 has no other mode


def _configure(trt: Any, builder: Any, order: Order, on: set[str], off: set[str]) -> Any:
    config = builder.create_builder_config()
    if order.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_bytes)
    if order.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = order.optimization_level
    config.avg_timing_iterations = order.avg_timing
    # in reverse: VERSION_COMPATIBLE, if set later, would undo EXCLUDE_LEAN_RUNTIME
    for name in sorted(on, reverse=True):
        config.set_flag(getattr(trt.BuilderFlag, name))
    for name in sorted(off):
        config.clear_flag(getattr(trt.BuilderFlag, name))
    if library.api(trt) < 10:
        # else a second context on a dynamic plan has no profile; later versions share by default
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if library.api(trt) < 10 or not order.jit_convolutions:
        config.set_tactic_sources(_tactics(trt, order))
    if library.is_rtx(trt):
        targets.set_target(trt, config, order.target)
    return config


def _tactics(trt: Any, order: Order) -> int:
    """Return the mask of sources of convolutions.

    It leaves out cuDNN and cuBLAS, which 8.6 does not use for its own layers anyway: so they need
    not be installed, which saves a gigabyte. Later versions never load them.
    """
    sources = trt.TacticSource
    mask = 1 << int(sources.EDGE_MASK_CONVOLUTIONS)
    if order.jit_convolutions:
        mask |= 1 << int(sources.JIT_CONVOLUTIONS)
    return mask


def _hold_fp32(trt: Any, network: Any, names: Collection[str]) -> bool:
    """Let these layers compute in fp32 under weak typing; returns whether there are any.

    The FP16 flag would else allow half in them, too: the casts around them are no order. Layers
    without a name that read theirs are those that the parser adds to broadcast a value. Those that
    multiply what Q/DQ give them stay int8 and write fp32.
    """
    if not names:
        return False
    half_or_whole = (trt.DataType.HALF, trt.DataType.FLOAT)
    held, dequantised = set[str](), set[str]()  # tensors
    for layer in map(network.get_layer, range(network.num_layers)):
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        if layer.type == trt.LayerType.DEQUANTIZE:
            dequantised.add(layer.get_output(0).name)
        in_int8 = any(x and x.name in dequantised for x in inputs)
        added = layer.name.startswith(_UNNAMED) and any(x and x.name in held for x in inputs)
        if not added and layer.name not in names:
            continue
        for index, tensor in enumerate(map(layer.get_output, range(layer.num_outputs))):
            if tensor.dtype in half_or_whole:
                held.add(tensor.name)
                if not in_int8:
                    layer.precision = trt.DataType.FLOAT
                layer.set_output_type(index, trt.DataType.FLOAT)
    return bool(held)


def _set_shapes(builder: Any, network: Any, config: Any, order: Order) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        if tensor.is_shape_tensor:  # its values, not its shape, would have to be in the profile
            raise Unsupported(
                f"TensorRT computes sizes from input {tensor.name!r} and needs its values when it builds. "
                "Export the model with that input as a constant, or use engine=onnxruntime."
            )
    open_inputs = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    if not open_inputs:
        return
    profile = builder.create_optimization_profile()
    for tensor in open_inputs:
        profile.set_shape(tensor.name, *order.shapes[tensor.name])
    config.add_optimization_profile(profile)


def _parser_error(error: Any) -> str:
    """Return the parser's message, with the node's name if it reports one."""
    node_name: Callable[[], str] | None = getattr(error, "node_name", None)
    node = node_name() if callable(node_name) else ""
    message = str(error.desc())
    return f"{message} (node name: {node})" if node else message
