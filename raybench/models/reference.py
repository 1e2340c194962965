"""Reference outputs: those of the fp32 graph for the first items of a pool, by ONNX Runtime."""

from __future__ import annotations

import os
from dataclasses import astuple
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.cache import Cache, key_of

if TYPE_CHECKING:
    from pathlib import Path

    from raybench.models.batches import BatchPool
    from raybench.models.model import Model

_OUTPUTS = "outputs.npz"


def reference_outputs(
    model: Model, batches: BatchPool, n_items: int, cache_dir: Path
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the fp32 graph's outputs on the CPU for the first `n_items` items of the pool.

    These are the first items of batch 0. Outputs without a batch are left out. The result is
    cached, so that only the first worker of a node computes it.
    """
    inputs = batches.first(n_items)
    key = key_of(
        kind="reference",
        graph=model.fp32_sha256,
        specs=[astuple(spec) for spec in batches.specs],
        pool=batches.key,
        items=n_items,
        onnxruntime=metadata.version("onnxruntime"),
    )

    def build(folder: Path) -> dict[str, Any]:
        outputs = _run(model.fp32_path, inputs)
        np.savez(folder / _OUTPUTS, *outputs.values())
        return {"names": list(outputs)}

    entry = Cache(cache_dir / "references").entry(key, build)
    with np.load(entry.folder / _OUTPUTS, allow_pickle=False) as arrays:
        return {name: arrays[f"arr_{index}"] for index, name in enumerate(entry.facts["names"])}


def _run(path: Path, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    items = len(next(iter(inputs.values())))
    outputs = zip(names, session.run(names, inputs), strict=True)
    return {name: values for name, values in outputs if values.ndim > 0 and len(values) == items}
