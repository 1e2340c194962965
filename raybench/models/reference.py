"""Reference outputs: those of the fp32 graph, by ONNX Runtime."""

from __future__ import annotations

from dataclasses import astuple
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.cache import Cache, key_of
from raybench.models.graph.cpu_run import open_session, run_graph
from raybench.models.items.initial_state import InitialState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from raybench.models.items.batches import BatchPool
    from raybench.models.model import Model

    Array = np.ndarray[Any, Any]

VERSION = 2
"""Incremented when the same graph and items give other entries: 1 left out some outputs."""

_OUTPUTS = "outputs.npz"


def reference_outputs(
    model: Model, batches: BatchPool, n_items: int, cache_dir: Path
) -> dict[str, Array]:
    """Return all of the fp32 graph's outputs on the CPU for the first `n_items` items of the pool.

    These are the first items of batch 0. An output has whatever shape the graph gives it.
    """
    return reference_runs(model, batches, (n_items,), cache_dir)[0]


def reference_runs(
    model: Model, batches: BatchPool, counts: Sequence[int], cache_dir: Path
) -> list[dict[str, Array]]:
    """Return the fp32 graph's outputs for the first items of the pool, for each number of items.

    The result is cached, so that only the first worker of a node computes it.
    """
    key = key_of(
        kind="reference",
        graph=model.fp32_sha256,
        specs=[astuple(spec) for spec in batches.specs],
        pool=batches.key,
        items=counts[0] if len(counts) == 1 else list(counts),
        **_drawn_for(model, batches),
        onnxruntime=metadata.version("onnxruntime"),
    )

    def build(folder: Path) -> dict[str, Any]:
        names, runs = run_graph(model.fp32_path, (first_inputs(model, batches, n) for n in counts))
        np.savez(folder / _OUTPUTS, *(values for run in runs for values in run))
        return {"names": names}

    entry = Cache(cache_dir / "references").entry(key, build, f"form {VERSION}")
    names = entry.facts["names"]
    with np.load(entry.folder / _OUTPUTS, allow_pickle=False) as arrays:
        return [
            {name: arrays[f"arr_{run * len(names) + i}"] for i, name in enumerate(names)}
            for run in range(len(counts))
        ]


def _drawn_for(model: Model, batches: BatchPool) -> dict[str, int]:
    """Return the batch size where the first items of the state depend on it: their axis is not the first."""
    inner = any(spec.batch_axis for spec in model.state_inputs)
    return {"batch_size": batches.batch_size} if inner else {}


def first_inputs(model: Model, batches: BatchPool, count: int) -> dict[str, Array]:
    """Return all inputs for the first items of batch 0, those that are state included."""
    return {**batches.first(count), **InitialState.of(model, batches).first(count)}


def reference_steps(model: Model, batches: BatchPool, steps: int) -> Iterator[dict[str, Array]]:
    """Return the fp32 graph's outputs of so many batches, each of which goes on where the last ended.

    A plain loop: ONNX Runtime computes a batch, and its outputs become inputs of the next as
    `StateTensor` says. Nothing is cached.
    """
    session = open_session(str(model.fp32_path), as_written=False)
    names = [output.name for output in session.get_outputs()]
    held = InitialState.of(model, batches).first(batches.batch_size)
    for step in range(steps):
        inputs = {**batches.batch(step % batches.count), **held}
        outputs = dict(zip(names, session.run(names, inputs), strict=True))
        for tensor in model.state:
            if tensor.ring_axis is None:
                held[tensor.input] = outputs[tensor.output]
            else:
                rows = np.moveaxis(held[tensor.input], tensor.ring_axis, 0)
                rows[step % len(rows)] = outputs[tensor.output].take(0, tensor.ring_axis)
        yield outputs
