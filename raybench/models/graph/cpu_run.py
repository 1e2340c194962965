"""A graph run once on the CPU, as it stands: no node is fused, folded or left out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import onnx
    import onnxruntime

    Array = np.ndarray[Any, Any]


def run(
    build: Callable[[], onnx.ModelProto],
    inputs: Mapping[str, Array],
    names: Sequence[str],
    big: bool,
) -> dict[str, Array]:
    """Return values of a graph by name for one batch; the arguments are those of `runs`."""
    (values,) = runs(build, [inputs], names, big)
    return values


def runs(
    build: Callable[[], onnx.ModelProto],
    batches: Iterable[Mapping[str, Array]],
    names: Sequence[str],
    big: bool,
) -> Iterator[dict[str, Array]]:
    """Return values of a graph by name for each batch, by ONNX Runtime without optimisations.

    Args:
        build: returns the graph with its weights, which is freed before the run.
        batches: inputs.
        names: outputs, or values inside.
        big: whether the graph exceeds what one protobuf holds, so that it goes through a file.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = _source(build(), names, Path(folder) / "model.onnx" if big else None)
        session = _session(source)
        del source
        for inputs in batches:
            yield dict(zip(names, session.run(list(names), dict(inputs)), strict=True))


def _source(model: onnx.ModelProto, names: Sequence[str], path: Path | None) -> str | bytes:
    """Return the graph with these outputs as bytes, or the file that it was written to."""
    import onnx

    declared = {value.name: value for value in model.graph.output}
    outputs = [declared.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    if path is None:
        serialised: bytes = model.SerializeToString()
        return serialised
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return str(path)


def _session(source: str | bytes) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.enable_cpu_mem_arena = False  # each value is freed after its last use
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
