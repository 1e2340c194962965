"""A graph run on the CPU by ONNX Runtime, for its outputs or for values inside it."""

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
        session = open_session(source)
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


def run_graph(
    path: Path, batches: Iterable[Mapping[str, Array]]
) -> tuple[list[str], list[list[Array]]]:
    """Return the names of the outputs, and their values for each batch, with all optimisations."""
    session = open_session(str(path), as_written=False)
    names = [output.name for output in session.get_outputs()]
    return names, [session.run(names, dict(inputs)) for inputs in batches]


def open_session(source: str | bytes, as_written: bool = True) -> onnxruntime.InferenceSession:
    """Return a session on the CPU; raises whatever ONNX Runtime does.

    Args:
        source: path of the graph, or its bytes.
        as_written: keep every node, none fused, folded or left out, and free each value after its last use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 4  # what fails is raised
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
