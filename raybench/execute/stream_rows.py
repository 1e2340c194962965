"""The rows of what a trial's workers did over time: blocks, batches and layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.measure.open_stream import OpenTrace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.engines.base import Layer
    from raybench.measure.stream import StreamTrace
    from raybench.measure.summary import Summary

Columns = dict[str, Any]


def block_rows(summary: Summary, start_ns: int) -> list[Columns]:
    """Return one row for each worker and block, on the driver's clock.

    Args:
        summary: of the trial; its stamps count from the common start.
        start_ns: the common start on the driver's `perf_counter_ns`.
    """
    return [
        {
            **row,
            "t_start_ns": row["t_start_ns"] + start_ns,
            "t_end_ns": row["t_end_ns"] + start_ns,
        }
        for row in summary.blocks
    ]


def sample_rows(traces: Sequence[StreamTrace]) -> list[Columns]:
    """Return one row for each batch, warm-up included, on each worker's own clock."""
    return [row for rank, trace in enumerate(traces) for row in _samples(rank, trace)]


def _samples(rank: int, trace: StreamTrace) -> list[Columns]:
    rows = [
        {
            "worker": rank,
            "seq": seq,
            "t_done_ns": done,
            "latency_ns": done - submitted,
            "batch_items": trace.batch_size,
        }
        for seq, (submitted, done) in enumerate(
            zip(trace.submit_ns.tolist(), trace.done_ns.tolist(), strict=True)
        )
    ]
    if isinstance(trace, OpenTrace):
        own = zip(rows, trace.items.tolist(), trace.first_ns.tolist(), strict=True)
        return [{**row, "batch_items": items, "arrival_ns": first} for row, items, first in own]
    return rows


def layer_rows(layers: Sequence[Layer]) -> list[Columns]:
    """Return one row for each layer of the first worker's model, in order of execution."""
    total_ns = sum(layer.time_ns for layer in layers)
    return [
        {
            "layer": index,
            "name": layer.name,
            "kind": layer.kind,
            "time_ms": layer.time_ns / 1e6,
            "time_frac": layer.time_ns / total_ns if total_ns else None,
            "info_json": layer.info_json,
        }
        for index, layer in enumerate(layers)
    ]
