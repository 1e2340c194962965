"""Columns of an open loop: latencies of items from their arrival, queueing and what was offered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.measure import overload
from raybench.measure.open_stream import LATE_NS, OpenTrace
from raybench.measure.summary import histogram, latency_columns
from raybench.stats.intervals import percentile_least
from raybench.stats.violations import bound_met, least_items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.experiment import MeasureSettings
    from raybench.measure.arrivals import Arrivals
    from raybench.measure.stream import StreamTrace
    from raybench.measure.summary import Summary
    from raybench.measure.worker_blocks import WorkerBlocks

_OF_CLOSED_LOOP = (
    "items_per_s_without_stalls", "rel_half_width_without_stalls", "device_items_per_s",
    "host_idle_frac",
)  # fmt: skip
"""Columns that say something of a device that always has work, and nothing of one that waits."""


def with_arrivals(
    summary: Summary, workers: Sequence[WorkerBlocks], arrivals: Arrivals, overloaded: bool
) -> Summary:
    """Add the columns of an open loop to a summary, and replace those that count batches.

    Items belong to the window in which they arrived: what arrived in the warm-up is left out though
    it was served later, and what arrived in the window counts though it was served after it. Under
    overload there are no latencies, as they would depend on how long one looks.

    Args:
        summary: of the same traces, as of a closed loop.
        workers: the traces, cut.
        arrivals: at all workers together.
        overloaded: whether the backlog grew.
    """
    begin, end = summary.window_ns
    kept = _without_closed(summary.trial)
    rows = tuple(
        {
            **_without_closed(columns),
            **_columns([worker], begin, end, overloaded),
            **_histogram(worker, begin, end, overloaded),
        }
        for columns, worker in zip(summary.workers, workers, strict=True)
    )
    asked = {"offered_items_per_s": arrivals.items_per_s}
    queues = _queues(workers, begin, end, overloaded)
    trial = {**kept, **_columns(workers, begin, end, overloaded), **queues, **asked}
    return replace(summary, trial=trial, workers=rows)


def with_bound(
    summary: Summary, workers: Sequence[WorkerBlocks], overloaded: bool, settings: MeasureSettings
) -> Summary:
    """Add whether the latency bound of a point was kept; without a bound nothing.

    Overload never keeps one. Fewer items than a percentile needs can break it and not keep it.

    Args:
        summary: as `with_arrivals` returned it.
        workers: the traces, cut.
        overloaded: whether the backlog grew.
        settings: of the point.
    """
    if not settings.slo_ms:
        return summary
    begin, end = summary.window_ns
    columns: dict[str, Any] = {
        "slo_ms": settings.slo_ms, "slo_percentile": settings.slo_percentile,
    }  # fmt: skip
    if overloaded:
        columns["slo_met"] = False
    else:
        latency_ms = _in_order(workers, begin, end)
        columns["slo_met"] = bound_met(latency_ms, settings.slo_ms, settings.slo_percentile)
        enough = len(latency_ms) >= least_items(settings.slo_percentile)
        if enough or columns["slo_met"] is False:
            columns["slo_violation_frac"] = float((latency_ms > settings.slo_ms).mean())
    return replace(summary, trial={**summary.trial, **columns})


def any_grew(workers: Sequence[WorkerBlocks], shared: bool = False) -> bool:
    """Return whether the backlog of a worker, or of the queue that all share, grew over the window."""
    queues = [workers] if shared else [[worker] for worker in workers]
    return any(overload.grew(queue) for queue in queues)


def count_unserved_once(traces: Sequence[StreamTrace]) -> list[OpenTrace]:
    """Leave what was never served of a shared queue to the first worker, by the earliest end.

    Each worker noted what nobody had taken when it ended. Those that ended later took some of it.

    Args:
        traces: of all workers of one queue, by one clock.
    """
    opened = [trace for trace in traces if isinstance(trace, OpenTrace)]
    end_ns = min(trace.end_ns for trace in opened)
    left = max((t.unserved_ns for t in opened), key=lambda ns: ns[0] if len(ns) else math.inf)
    none, left = left[:0], left[left <= end_ns]
    return [
        replace(trace, unserved_ns=none if rank else left, end_ns=end_ns)
        for rank, trace in enumerate(opened)
    ]


def _without_closed(columns: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that hold for an open loop too."""
    return {
        name: value
        for name, value in columns.items()
        if name not in _OF_CLOSED_LOOP and not name.startswith("latency_")
    }


def _columns(
    workers: Sequence[WorkerBlocks], begin: int, end: int, overloaded: bool
) -> dict[str, Any]:
    """Return the columns that a row of `trials` and one of `workers` share."""
    batches = sum(int(_batches_in(worker, begin, end).sum()) for worker in workers)
    counted = {"batches": batches, **_evenness(workers, begin, end)}
    if overloaded:
        return {**counted, "latency_basis": "request"}
    latency_ms = _in_order(workers, begin, end)
    return {**counted, **latency_columns(latency_ms, "request")}


def _queues(
    workers: Sequence[WorkerBlocks], begin: int, end: int, overloaded: bool
) -> dict[str, Any]:
    """Return what arrived, and how it was queued and batched, of all workers together."""
    inside = [_batches_in(worker, begin, end) for worker in workers]
    items = np.concatenate([w.arrivals.items[m] for w, m in zip(workers, inside, strict=True)])
    late_ns = np.concatenate(
        [
            (worker.trace.submit_ns - worker.arrivals.due_ns)[mask]
            for worker, mask in zip(workers, inside, strict=True)
        ]
    )
    columns: dict[str, Any] = {
        "arrived_items_per_s": _arrived_items_per_s(workers, begin, end),
        "batch_items_mean": float(items.mean()) if len(items) else None,
        "batch_computed_mean": _computed_mean(workers, inside),
        "late_arrivals_frac": float((late_ns > LATE_NS).mean()) if len(late_ns) else None,
    }
    if overloaded:
        return columns
    queue_ms = np.concatenate(
        [worker.arrivals.queue_ns[_items_in(worker, begin, end)] / 1e6 for worker in workers]
    )
    for name, p in (("p50", 0.5), ("p99", 0.99)):
        if len(queue_ms) >= percentile_least(p):
            columns[f"queue_ms_{name}"] = float(np.quantile(queue_ms, p))
    return columns


def _computed_mean(
    workers: Sequence[WorkerBlocks], inside: Sequence[NDArray[np.bool_]]
) -> float | None:
    """Return the items computed in a batch, mean; None without batches, or if engines do not say."""
    if not all(worker.arrivals.sizes for worker in workers):
        return None
    computed = np.concatenate(
        [worker.arrivals.computed[m] for worker, m in zip(workers, inside, strict=True)]
    )
    return float(computed.mean()) if len(computed) else None


def _evenness(workers: Sequence[WorkerBlocks], begin: int, end: int) -> dict[str, float]:
    """Return how even the device's times are, of batches of the size that was most frequent.

    Batches of different sizes differ in time, which says nothing of the device.
    """
    ratios = []
    for worker in workers:
        spans_ns, inside = worker.trace.spans_ns, _batches_in(worker, begin, end)
        if spans_ns is None or not inside.any():
            continue
        computed = worker.arrivals.computed[inside]
        alike = spans_ns[: len(inside)][inside][computed == np.bincount(computed).argmax(), 1]
        ratios.append(float(alike.std() / alike.mean()))
    return {"compute_cov": max(ratios)} if ratios else {}


def _batches_in(worker: WorkerBlocks, begin: int, end: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (worker.done_ns > begin) & (worker.done_ns <= end)
    return inside


def _items_in(worker: WorkerBlocks, begin: int, end: int) -> slice:
    """Return the items that arrived in the window and were served."""
    arrived_ns = worker.arrivals.arrival_ns
    start_ns = worker.trace.start_ns
    first, last = np.searchsorted(arrived_ns, [start_ns + begin, start_ns + end], side="right")
    return slice(int(first), int(last))


def _unserved(worker: WorkerBlocks, begin: int, end: int) -> NDArray[np.int64]:
    """Return the arrivals in the window, from the common start, that were never served."""
    since_ns = worker.arrivals.unserved_ns - worker.trace.start_ns
    inside: NDArray[np.int64] = since_ns[(since_ns > begin) & (since_ns <= end)]
    return inside


def _arrived_items_per_s(workers: Sequence[WorkerBlocks], begin: int, end: int) -> float | None:
    """Return the rate at which items arrived in the window; None where they were too many to draw."""
    if any(worker.arrivals.end_ns < worker.trace.start_ns + end for worker in workers):
        return None
    served = [_items_in(worker, begin, end) for worker in workers]
    arrived = sum(items.stop - items.start for items in served)
    arrived += sum(len(_unserved(worker, begin, end)) for worker in workers)
    return float(arrived * 1e9 / (end - begin))


def _latencies(worker: WorkerBlocks, begin: int, end: int) -> NDArray[np.float64]:
    """Return the latencies of the items that arrived in the window, in order of arrival.

    An item that was never served has waited at least until the end of the stream.
    """
    trace = worker.arrivals
    ended_ns = max(trace.end_ns, int(trace.done_ns[-1])) - trace.start_ns
    served_ns = trace.latency_ns[_items_in(worker, begin, end)]
    return np.concatenate([served_ns, ended_ns - _unserved(worker, begin, end)]) / 1e6


def _in_order(workers: Sequence[WorkerBlocks], begin: int, end: int) -> NDArray[np.float64]:
    """Return the latencies of all workers in order of arrival."""
    latency_ms = [_latencies(worker, begin, end) for worker in workers]
    arrived = [
        each
        for worker in workers
        for each in (
            worker.arrivals.arrival_ns[_items_in(worker, begin, end)] - worker.trace.start_ns,
            _unserved(worker, begin, end),
        )
    ]
    return np.concatenate(latency_ms)[np.argsort(np.concatenate(arrived), kind="stable")]


def _histogram(worker: WorkerBlocks, begin: int, end: int, overloaded: bool) -> dict[str, Any]:
    edges, counts = histogram(np.empty(0) if overloaded else _latencies(worker, begin, end))
    return {"latency_hist_edges_ms": edges, "latency_hist_counts": counts}
