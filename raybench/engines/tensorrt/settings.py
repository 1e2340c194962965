"""Options of the engine `tensorrt`."""

from __future__ import annotations

from dataclasses import dataclass

from raybench.engines.tensorrt import builder
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
        int8_rest: what layers outside Q/DQ may use in TensorRT 8.6: "graph" (fp32), "tf32" or "fp16".
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


def check(options: TensorRTSettings) -> None:
    """Raise Unsupported for an option out of its range, before anything is loaded."""
    for name, lowest, highest in (
        ("streams", 1, 64),
        ("optimization_level", 0, 5),
        ("timing_rounds", 1, 1000),
    ):
        value = getattr(options, name)
        if not lowest <= value <= highest:
            raise Unsupported(f"{name}={value} of engine 'tensorrt' is not in {lowest}..{highest}.")
    if not 1 <= (options.best_batch or 1) <= (options.largest_batch or 1):
        raise Unsupported(
            f"best_batch={options.best_batch} is not in 1..largest_batch={options.largest_batch}."
        )
    if options.int8_rest not in builder.INT8_REST:
        choices = ", ".join(builder.INT8_REST)
        raise Unsupported(f"int8_rest={options.int8_rest!r} is unknown. Use one of {choices}.")
