"""Reduces the traces of all workers of a trial to the columns that are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.measure import stalls
from raybench.measure.feeding_columns import feeding_columns
from raybench.measure.worker_blocks import WorkerBlocks, block_rows, cut_traces
from raybench.stats import intervals, trends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.measure.stream import StreamTrace

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
CI_METHOD = "log_t*max(se_ar1,se_nbm10)"
"""The blocks are cells of the grid, so that their mean is one over time. Rows from before stalls were
looked for say "t*max(se_ar1,se_nbm10)"; without a stretched block both are the same interval."""


@dataclass(frozen=True)
class Summary:
    """Columns to store for a trial; names and units as in `results/columns.py`.

    Attributes:
        trial: columns of the one row of `trials`.
        workers: columns of `workers`, one entry per worker.
        blocks: columns of `blocks`, one entry per block; times count from the common start.
        window_ns: start and end of the window, from the common start.
    """

    trial: dict[str, Any]
    workers: tuple[dict[str, Any], ...]
    blocks: tuple[dict[str, Any], ...]
    window_ns: tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The measurement window common to all workers; ns from the common start."""

    begin: int
    end: int
    block_ns: int

    def contains(self, done_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which completions are inside."""
        return (done_ns > self.begin) & (done_ns <= self.end)


def summarise(
    traces: Sequence[StreamTrace],
    warmup_blocks: int,
    measured_blocks: int,
    block_ns: int,
    min_batches: int,
) -> Summary:
    """Summarise the traces of one trial.

    The window common to all workers begins at the latest first edge after the warm-up and ends at
    the earliest last edge. Throughput is the number of items completed in it over its length. Its
    interval is that of the mean aggregate rate over the cells of the grid, which the stopping rule's
    last check used: also a mean over time, so that a stall widens the interval of the rate that it
    lowers. A stall astride the beginning or the end of the window is part of it.

    Args:
        traces: one per worker, each by its own clock; `start_ns` relates them to one another.
        warmup_blocks: blocks from the common start that are warm-up.
        measured_blocks: blocks of the window; later ones are not counted.
        block_ns: length of a block.
        min_batches: fewest batches in a block.

    Raises:
        EngineFailure: when a worker completed no whole block after the warm-up.
    """
    return summarise_cut(
        cut_traces(traces, warmup_blocks, measured_blocks, block_ns, min_batches), block_ns
    )


def summarise_cut(workers: Sequence[WorkerBlocks], block_ns: int, instances: int = 1) -> Summary:
    """Summarise traces that are cut into blocks.

    Args:
        workers: the traces of all workers, by rank.
        block_ns: length of a block.
        instances: workers that share a device, which follow one another.
    """
    window = Window(
        begin=max(worker.begin_ns for worker in workers),
        end=min(worker.end_ns for worker in workers),
        block_ns=block_ns,
    )
    return Summary(
        trial=_trial(workers, window, instances),
        workers=tuple(_worker(worker, window) for worker in workers),
        blocks=tuple(
            row for rank, worker in enumerate(workers) for row in block_rows(rank, worker)
        ),
        window_ns=(window.begin, window.end),
    )


def _items(worker: WorkerBlocks, window: Window) -> float:
    return worker.items_between(window.begin, window.end)


def _trial(workers: Sequence[WorkerBlocks], window: Window, instances: int) -> dict[str, Any]:
    """Return the columns of the row in `trials`."""
    batch_size = workers[0].trace.batch_size
    items = [_items(worker, window) for worker in workers]
    rates = [count * 1e9 / (window.end - window.begin) for count in items]
    devices = np.reshape(rates, (-1, instances)).sum(axis=1)
    aggregate = np.sum([worker.rates for worker in workers], axis=0)
    return {
        **throughput_columns(aggregate, sum(rates), sum(items), batch_size, window),
        **_stalls(workers, window),
        **stability_columns(aggregate),
        **latency_columns(_all_latencies(workers, window)),
        **_device_time(workers, window),
        **_shared(rates, instances),
        **feeding_columns(workers, window),
        "items_per_s_per_worker": float(devices.mean()),
        "imbalance": float(devices.max() / devices.min()) - 1,
        "slowest_worker": int(np.argmin(rates)),
        "start_skew_ms": _spread([worker.trace.late_ns for worker in workers]) / 1e6,
        "end_skew_ms": _spread([int(worker.done_ns[-1]) for worker in workers]) / 1e6,
        "warmup_s": window.begin / 1e9,
        "warmup_batches": int(sum(np.searchsorted(w.done_ns, window.begin) for w in workers)),
    }


def _shared(rates: Sequence[float], instances: int) -> dict[str, Any]:
    """Return how evenly the instances of each device run; nothing where each has one."""
    if instances == 1:
        return {}
    by_device = np.reshape(rates, (-1, instances))
    evenness = (by_device.min(axis=1) / by_device.max(axis=1)).min()
    # an instance that waits for another is idle while the device is not
    return {
        "instance_min_max_ratio": float(evenness),
        "host_idle_frac": None,
        "device_items_per_s": None,
    }


def _worker(worker: WorkerBlocks, window: Window) -> dict[str, Any]:
    """Return the columns of one worker's row in `workers`."""
    latency_ms = worker.latency_ms[window.contains(worker.done_ns)]
    items = _items(worker, window)
    rate = items * 1e9 / (window.end - window.begin)
    edges, counts = histogram(latency_ms)
    return {
        **throughput_columns(worker.rates, rate, items, worker.trace.batch_size, window),
        **_stalls([worker], window),
        **stability_columns(worker.rates),
        **latency_columns(latency_ms),
        **_device_time([worker], window),
        "warmup_s": window.begin / 1e9,
        "warmup_batches": int(np.searchsorted(worker.done_ns, window.begin)),
        "latency_hist_edges_ms": edges,
        "latency_hist_counts": counts,
    }


def _spread(values: Sequence[int]) -> float:
    return float(max(values) - min(values))


def _all_latencies(workers: Sequence[WorkerBlocks], window: Window) -> NDArray[np.float64]:
    """Return the latencies of all workers inside the window, in order of completion."""
    pairs = [(worker, window.contains(worker.done_ns)) for worker in workers]
    done = np.concatenate([worker.done_ns[inside] for worker, inside in pairs])
    latency = np.concatenate([worker.latency_ms[inside] for worker, inside in pairs])
    return latency[np.argsort(done, kind="stable")]


def throughput_columns(
    rates: NDArray[np.float64],
    items_per_s: float,
    items: float,
    batch_size: int,
    window: Window,
) -> dict[str, Any]:
    """Return the rate over a window with the interval that the rates of its blocks give."""
    interval = intervals.mean_ci(rates)
    half = interval.relative if math.isfinite(interval.relative) else None
    lo, hi = (None, None) if half is None else intervals.bounds(items_per_s, half * items_per_s)
    return {
        "items_per_s": items_per_s,
        "items_per_s_lo": None if lo is None else float(lo),
        "items_per_s_hi": None if hi is None else float(hi),
        "rel_half_width": half,
        "ci_level": intervals.CONFIDENCE,
        "ci_method": CI_METHOD,
        "n_blocks": len(rates),
        "block_s": window.block_ns / 1e9,
        "n_eff": interval.n_eff,
        "rho1": intervals.rho(rates) if len(rates) > 1 else None,
        "block_cv": float(rates.std(ddof=1) / rates.mean()) if len(rates) > 1 else None,
        "items": round(items),
        "batches": round(items / batch_size),
        "window_s": (window.end - window.begin) / 1e9,
    }


def _stalls(workers: Sequence[WorkerBlocks], window: Window) -> dict[str, Any]:
    """Return what stalls there were, and the rate and its half-width without their time."""
    length = window.end - window.begin
    without = [
        _items(w, window) * 1e9 / (length - stalls.lost_ns(w.stalls, window.begin, window.end))
        for w in workers
    ]
    clean = ~np.any([worker.stalled_cells for worker in workers], axis=0)
    rates = np.sum([worker.rates for worker in workers], axis=0)[clean]
    relative = intervals.mean_ci(rates).relative if len(rates) else math.inf
    return {
        **stalls.columns([worker.stalls for worker in workers], window.begin, window.end),
        "items_per_s_without_stalls": sum(without),
        "rel_half_width_without_stalls": relative if math.isfinite(relative) else None,
    }


def stability_columns(rates: NDArray[np.float64]) -> dict[str, Any]:
    """Return what shifts, trends and outliers the rates of consecutive blocks have."""
    if len(rates) < 3:
        return {}
    shift, drift = trends.largest_shift(rates), trends.drift(rates)
    known = math.isfinite(drift.half_width)
    return {
        "step_rel": shift.relative,
        "step_z": shift.z,
        "drift_rel": drift.relative,
        "drift_z": drift.z,
        "drift_rel_lo": drift.relative - drift.half_width if known else None,
        "drift_rel_hi": drift.relative + drift.half_width if known else None,
        "outlier_blocks": intervals.outliers(rates).either,
    }


def latency_columns(latency_ms: NDArray[np.float64], basis: str = "batch") -> dict[str, Any]:
    """Return the columns of latencies in order of time, percentiles only where there are enough."""
    if not len(latency_ms):
        return {"latency_n": 0, "latency_basis": basis}
    columns: dict[str, Any] = {
        "latency_n": len(latency_ms),
        "latency_mean_ms": float(latency_ms.mean()),
        "latency_std_ms": float(latency_ms.std(ddof=1)) if len(latency_ms) > 1 else None,
        "latency_max_ms": float(latency_ms.max()),
        "latency_basis": basis,
        "outlier_batches": intervals.outliers(latency_ms).either,
    }
    interval = intervals.queue_percentile_ci if basis == "request" else intervals.percentile_ci
    for name, p in PERCENTILES.items():
        span = interval(latency_ms, p)
        if span is not None:
            columns[f"latency_{name}_ms"] = span.value
            columns[f"latency_{name}_lo_ms"] = span.lo
            columns[f"latency_{name}_hi_ms"] = span.hi
    return columns


def _device_time(workers: Sequence[WorkerBlocks], window: Window) -> dict[str, Any]:
    """Return the host's time to submit, and the device's own times where it has a clock."""
    pairs = [(worker.trace, window.contains(worker.done_ns)) for worker in workers]
    enqueue = np.concatenate([(t.enqueued_ns - t.submit_ns)[m] for t, m in pairs]) / 1e6
    if not len(enqueue):
        return {}
    columns = {
        "enqueue_ms_mean": float(enqueue.mean()),
        "enqueue_ms_median": float(np.median(enqueue)),
    }
    if any(trace.spans_ns is None for trace, _ in pairs):
        return columns
    spans_ms = [t.spans_ns[: len(m)][m] / 1e6 for t, m in pairs if t.spans_ns is not None]
    pooled = np.concatenate(spans_ms)
    h2d, compute, d2h = np.median(pooled, axis=0)
    busy_ms = float(pooled[:, 1].sum())
    batch_size, count = workers[0].trace.batch_size, len(workers)
    return {
        **columns,
        "h2d_ms_median": float(h2d),
        "compute_ms_median": float(compute),
        "d2h_ms_median": float(d2h),
        "compute_cov": max(_cov(spans[:, 1]) for spans in spans_ms if len(spans)),
        "device_items_per_s": len(pooled) * batch_size * 1e3 / busy_ms * count,
        "host_idle_frac": max(0.0, 1 - busy_ms * 1e6 / ((window.end - window.begin) * count)),
    }


def _cov(times: NDArray[np.float64]) -> float:
    return float(times.std() / times.mean())


def histogram(latency_ms: NDArray[np.float64]) -> tuple[list[float], list[int]]:
    """Return edges and counts of logarithmic buckets of 1 %, over the range of the latencies."""
    if not len(latency_ms):
        return [], []
    width = math.log(1.01)
    bucket = np.floor(np.log(np.maximum(latency_ms, 1e-6)) / width).astype(np.int64)
    low, high = int(bucket.min()), int(bucket.max())
    counts = np.bincount(bucket - low, minlength=high - low + 1)
    edges = np.exp(np.arange(low, high + 2) * width)
    return edges.tolist(), counts.tolist()
