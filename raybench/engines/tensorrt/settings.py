"""Options of the engines `tensorrt` and `tensorrt_rtx`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raybench.engines.tensorrt import builder, targets
from raybench.errors import Unsupported


@dataclass(frozen=True)
class TensorRTSettings:
    """Options of the engine `tensorrt`.

    Attributes:
        streams: execution contexts that compute at the same time; the batches take turns.
        cuda_graphs: launch each batch as a graph.
        copies_in_graph: without effect: copies run beside the graphs, which hold kernels alone.
        spin: wait for a batch by spinning, which responds sooner and takes the core.
        workspace_mib: most scratch memory of a layer; None for all of the device.
        optimization_level: of the builder, 0 to 5.
        timing_rounds: how often the builder times each tactic.
        timing_cache: keep what the builder learns about layers for later builds.
        jit_convolutions: let the builder try convolutions that it compiles on the spot.
        largest_batch: build one dynamic plan for every batch from 1 to this; None for a static plan
            of the point's batch.
        best_batch: the batch that a dynamic plan is tuned for; None for the largest.
        int8_rest: what layers outside Q/DQ may use in TensorRT 8.6 in precision int8: "graph" (fp32),
            "tf32" or "fp16"; precision int8_fp16 supersedes the last.
        version_compatible: build plans that the lean and the dispatch runtime can run, too. Tested
            with 8.6.0 of all three, not with a newer version of the same major.
    """

    streams: int = 1
    cuda_graphs: bool = True
    copies_in_graph: bool = True
    spin: bool = True
    workspace_mib: int | None = None
    optimization_level: int = 3
    timing_rounds: int = 8
    timing_cache: bool = True
    jit_convolutions: bool = True
    largest_batch: int | None = None
    best_batch: int | None = None
    int8_rest: str = "graph"
    version_compatible: bool = False

    target: ClassVar[None] = None
    """Its plans are for the GPU on which they are built."""


@dataclass(frozen=True)
class RtxSettings:
    """Options of the engine `tensorrt_rtx`.

    Attributes:
        streams: execution contexts that compute at the same time; the batches take turns.
        cuda_graphs: launch each batch as a graph.
        spin: wait for a batch by spinning, which responds sooner and takes the core.
        workspace_mib: most scratch memory of a layer; None for all of the device.
        largest_batch: build one dynamic plan for every batch from 1 to this; None for a static plan
            of the point's batch.
        best_batch: the batch that a dynamic plan is tuned for; None for the largest.
        target: compute capability that plans are built for: "8.0+", which all GPUs from 8.0 on share,
            or one alone, e.g. "8.9"; None for "7.5" on such a GPU and "8.0+" on all others.
        kernel_cache: keep the kernels that are compiled where a plan is loaded for the next time.
    """

    streams: int = 1
    cuda_graphs: bool = True
    spin: bool = True
    workspace_mib: int | None = None
    largest_batch: int | None = None
    best_batch: int | None = None
    target: str | None = None
    kernel_cache: bool = True

    # what TensorRT for RTX has not, or has without effect
    optimization_level: ClassVar[int] = 3
    timing_rounds: ClassVar[int] = 1
    timing_cache: ClassVar[bool] = False
    jit_convolutions: ClassVar[bool] = True
    int8_rest: ClassVar[str] = "graph"
    version_compatible: ClassVar[bool] = False


def check(options: TensorRTSettings | RtxSettings, engine: str = "tensorrt") -> None:
    """Raise Unsupported for an option out of its range, before anything is loaded."""
    for name, lowest, highest in (
        ("streams", 1, 64),
        ("optimization_level", 0, 5),
        ("timing_rounds", 1, 1000),
    ):
        value = getattr(options, name)
        if not lowest <= value <= highest:
            raise Unsupported(f"{name}={value} of engine {engine!r} is not in {lowest}..{highest}.")
    if not 1 <= (options.best_batch or 1) <= (options.largest_batch or 1):
        raise Unsupported(
            f"best_batch={options.best_batch} is not in 1..largest_batch={options.largest_batch}."
        )
    if options.int8_rest not in builder.INT8_REST:
        choices = ", ".join(builder.INT8_REST)
        raise Unsupported(f"int8_rest={options.int8_rest!r} is unknown. Use one of {choices}.")
    if options.target not in (None, *targets.choices()):
        choices = ", ".join(targets.choices())
        raise Unsupported(f"engine.target={options.target!r} is unknown. Use one of {choices}.")
