"""A graph run once on the CPU, as it stands: no node is fused, folded or left out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import onnx
    import onnxruntime

    Array = np.ndarray[Any, Any]


def run(
    model: onnx.ModelProto, inputs: Mapping[str, Array], names: Sequence[str], big: bool
) -> dict[str, Array]:
    """Return values of a graph by name for one batch; the arguments are those of `runs`."""
    (values,) = runs(model, [inputs], names, big)
    return values


def runs(
    model: onnx.ModelProto, batches: Iterable[Mapping[str, Array]], names: Sequence[str], big: bool
) -> Iterator[dict[str, Array]]:
    """Return values of a graph by name for each batch, by ONNX Runtime without optimisations.

    Args:
        model: the graph with its weights; its outputs become those named.
        batches: inputs.
        names: outputs, or values inside.
        big: whether the graph exceeds what one protobuf holds, so that it goes through a file.
    """
    import onnx

    declared = {value.name: value for value in model.graph.output}
    outputs = [declared.get(name, onnx.ValueInfoProto(name=name)) for name in names]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    with tempfile.TemporaryDirectory() as folder:
        session = _session(model, Path(folder) / "model.onnx" if big else None)
        for inputs in batches:
            yield dict(zip(names, session.run(list(names), dict(inputs)), strict=True))


def _session(model: onnx.ModelProto, path: Path | None) -> onnxruntime.InferenceSession:
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.enable_cpu_mem_arena = False  # each value is freed after its last use
    options.log_severity_level = 4
    if path is not None:
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data")
    source = str(path) if path is not None else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
