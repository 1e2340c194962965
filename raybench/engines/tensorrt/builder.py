"""Builder: an ONNX file made into a plan. The only file that touches TensorRT's builder and parser.

One path for 8.6, 10 and 11: what differs is asked of the library, and masks are made from its own
enumerations, because their numbers moved between versions.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from raybench.engines.tensorrt import failures, library
from raybench.errors import EngineUnavailable, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Shape = tuple[int, ...]
INT8_REST = ("graph", "tf32", "fp16")
"""What layers outside Q/DQ may compute in under weak typing; the graph's own type is fp32."""


@dataclass(frozen=True)
class Order:
    """All that decides a plan, but for the library and the GPU.

    Attributes:
        onnx_path: the graph; its external data lies beside it.
        onnx_sha256: of graph and external data.
        precision: fp32, tf32, fp16, bf16, int8 or fp8.
        shapes: lowest, best and highest shape of each input; all the same for a static plan.
        workspace_bytes: most scratch memory of a layer; None for all of the device.
        optimization_level: 0 to 5.
        avg_timing: times each tactic is timed.
        jit_convolutions: try convolutions that the builder compiles on the spot.
        int8_rest: what layers outside Q/DQ may use under weak typing, one of `INT8_REST`.
        version_compatible: for the lean and the dispatch runtime, too.
        detailed: keep the layers' names and tactics in the plan.
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

    def facts(self) -> dict[str, Any]:
        """What of this belongs into the name of the plan; the path does not."""
        facts = asdict(self)
        del facts["onnx_path"]
        return facts


@dataclass(frozen=True)
class Built:
    """A plan as the builder made it.

    Attributes:
        plan: serialised.
        build_s: from parsing to the end.
        timing_cache: what the builder learnt, merged with what it was given; None without one.
    """

    plan: bytes
    build_s: float
    timing_cache: bytes | None


def strongly_typed(trt: Any) -> bool:
    """Whether the graph's own types decide (10 and later), not flags of the builder (8.6)."""
    return library.version(trt)[0] >= 10


def flags(trt: Any, order: Order) -> tuple[set[str], set[str]]:
    """Names of the builder flags to set and to clear for a precision.

    Raises:
        Unsupported: for a precision that this version has not got.
    """
    on: set[str] = set()
    off: set[str] = set()
    tf32 = order.precision == "tf32" or (order.precision, order.int8_rest) == ("int8", "tf32")
    (on if tf32 else off).add("TF32")  # on by default in every version
    if order.version_compatible:
        on |= {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
    if strongly_typed(trt):
        return on, off
    weak = {"fp32": set(), "tf32": set(), "fp16": {"FP16"}, "int8": {"INT8"}}
    if order.precision not in weak:
        raise Unsupported(
            f"TensorRT {trt.__version__} has no {order.precision} convolutions. "
            "Use TensorRT 10 or newer, or another precision."
        )
    on |= weak[order.precision]
    if order.precision == "int8" and order.int8_rest == "fp16":
        on.add("FP16")
    return on, off


def available(trt: Any) -> bool:
    """Whether this library can build; the lean and the dispatch runtime cannot."""
    return hasattr(trt, "Builder")


def build(trt: Any, order: Order, timing_cache: bytes | None) -> Built:
    """Build the plan on the current device. A device must have been found before.

    Args:
        trt: the full library.
        order: what to build.
        timing_cache: of an earlier build; b"" to start one, None to do without.

    Raises:
        EngineUnavailable: for a library without a builder.
        PointError: when it does not fit, is not supported or is refused.
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
    if not parser.parse_from_file(str(order.onnx_path)):
        words = [_parser_words(parser.get_error(i)) for i in range(parser.num_errors)]
        raise failures.of_parser(words, journal.lines())
    config = _configure(trt, builder, order, on, off)
    _set_shapes(builder, network, config, order)
    cache = None
    if timing_cache is not None:
        cache = config.create_timing_cache(timing_cache) or config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise failures.of_library("build", journal.lines(), "build a plan")
    learnt = None if cache is None else bytes(config.get_timing_cache().serialize())
    return Built(bytes(plan), time.perf_counter() - began, learnt)


def merge_timing(trt: Any, ours: bytes, theirs: bytes) -> bytes:
    """Two timing caches as one; ours alone when theirs is of another library or device."""
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
    major = library.version(trt)[0]
    if major < 10:
        return 1 << int(kinds.EXPLICIT_BATCH)
    return 1 << int(kinds.STRONGLY_TYPED) if major == 10 else 0  # 11 knows nothing else


def _configure(trt: Any, builder: Any, order: Order, on: set[str], off: set[str]) -> Any:
    config = builder.create_builder_config()
    if order.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace_bytes)
    if order.detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = order.optimization_level
    config.avg_timing_iterations = order.avg_timing
    for name in sorted(
        on, reverse=True
    ):  # VERSION_COMPATIBLE, set later, undoes EXCLUDE_LEAN_RUNTIME
        config.set_flag(getattr(trt.BuilderFlag, name))
    for name in sorted(off):
        config.clear_flag(getattr(trt.BuilderFlag, name))
    if library.version(trt)[0] < 10:
        # else a second context on a dynamic plan has no profile; later versions share by themselves
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if library.version(trt)[0] < 10 or not order.jit_convolutions:
        config.set_tactic_sources(_tactics(trt, order))
    return config


def _tactics(trt: Any, order: Order) -> int:
    """Where convolutions may come from: every bit of the default but those below.

    Without the bits for cuDNN and cuBLAS, which 8.6 ignores for its own layers anyway, the library
    does not ask for them: a gigabyte that need not be installed. Later versions never ask.
    """
    sources = trt.TacticSource
    kept = 1 << int(sources.EDGE_MASK_CONVOLUTIONS)
    if order.jit_convolutions:
        kept |= 1 << int(sources.JIT_CONVOLUTIONS)
    return kept


def _set_shapes(builder: Any, network: Any, config: Any, order: Order) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    open_inputs = [tensor for tensor in inputs if -1 in tuple(tensor.shape)]
    if not open_inputs:
        return
    profile = builder.create_optimization_profile()
    for tensor in open_inputs:
        profile.set_shape(tensor.name, *order.shapes[tensor.name])
    config.add_optimization_profile(profile)


def _parser_words(error: Any) -> str:
    """The parser's own words, with the node where it tells one."""
    named: Callable[[], str] | None = getattr(error, "node_name", None)
    node = named() if callable(named) else ""
    words = str(error.desc())
    return f"{words} (node name: {node})" if node else words
