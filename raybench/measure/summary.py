"""Summary: the numbers of one trial, from the traces of all its workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import EngineFailure
from raybench.measure.blocks import Blocks, cut, items_between
from raybench.stats import intervals, trends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.measure.stream import StreamTrace

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
CI_METHOD = "t*max(se_ar1,se_nbm10)"


@dataclass(frozen=True)
class Summary:
    """What is stored of a trial, column by column; names and units as in results/schema.py.

    Attributes:
        trial: columns of the one row of `trials`.
        workers: columns of `workers`, one entry a worker.
        blocks: columns of `blocks`, one entry a block; times count from the common start.
        window_ns: start and end of the window, from the common start.
    """

    trial: dict[str, Any]
    workers: tuple[dict[str, Any], ...]
    blocks: tuple[dict[str, Any], ...]
    window_ns: tuple[int, int]


@dataclass(frozen=True)
class _Part:
    """One worker's share: its stamps from the common start on, its blocks, its window."""

    done_ns: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    blocks: Blocks
    first: int
    """Number of the first measured block."""
    last: int
    """Number of the block after the last measured one."""

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items per second of each measured block."""
        return self.blocks.rates[self.first : self.last]


def summarise(
    traces: Sequence[StreamTrace],
    warmup_blocks: int,
    measured_blocks: int,
    block_ns: int,
    min_batches: int,
) -> Summary:
    """Reduce the traces of one trial.

    The window common to all workers goes from the latest first edge after the warm-up to the
    earliest last edge; throughput is all items completed in it over its length. Its interval is
    that of the mean of the aggregate block rates, the same that the last look judged.

    Args:
        traces: one a worker; each in its own clock, which `start_ns` ties to the others.
        warmup_blocks: blocks from the common start that are warm-up.
        measured_blocks: blocks of the window; what came later is not counted.
        block_ns: length of a block.
        min_batches: fewest batches in a block.

    Raises:
        EngineFailure: when no worker completed a whole block after the warm-up.
    """
    parts = [_part(t, warmup_blocks, measured_blocks, block_ns, min_batches) for t in traces]
    if any(part.first >= part.last for part in parts):
        raise EngineFailure(
            "A worker completed no whole block after the warm-up: its batches are too slow for this "
            "preset. Use a smaller batch_size or a longer measure.max_s."
        )
    begin = max(int(part.blocks.edge_ns[part.first]) for part in parts)
    end = min(int(part.blocks.edge_ns[part.last]) for part in parts)
    batch_size = traces[0].batch_size
    items = [items_between(part.done_ns, begin, end, batch_size) for part in parts]
    rates = [count * 1e9 / (end - begin) for count in items]
    shortest = min(len(part.rates) for part in parts)
    aggregate = np.sum([part.rates[:shortest] for part in parts], axis=0)
    trial = {
        **_throughput(aggregate, sum(rates), sum(items), batch_size, begin, end, block_ns),
        **_stability(aggregate),
        **_latency(_pooled(parts, begin, end)),
        **_device_time(traces, parts, begin, end),
        "items_per_s_per_worker": sum(rates) / len(rates),
        "imbalance": max(rates) / min(rates) - 1,
        "slowest_worker": int(np.argmin(rates)),
        "start_skew_ms": _spread([trace.late_ns for trace in traces]) / 1e6,
        "end_skew_ms": _spread([int(part.done_ns[-1]) for part in parts]) / 1e6,
        "warmup_s": begin / 1e9,
        "warmup_batches": int(sum(np.searchsorted(p.done_ns, begin) for p in parts)),
    }
    workers = tuple(
        _worker(trace, part, rate, (begin, end), block_ns)
        for trace, part, rate in zip(traces, parts, rates, strict=True)
    )
    blocks = tuple(
        row
        for rank, (trace, part) in enumerate(zip(traces, parts, strict=True))
        for row in _block_rows(rank, trace, part)
    )
    return Summary(trial, workers, blocks, (begin, end))


def _part(trace: StreamTrace, warmup: int, measured: int, block_ns: int, min_batches: int) -> _Part:
    done = trace.done_ns - trace.start_ns
    blocks = cut(done, 0, block_ns, min_batches, trace.batch_size)
    last = min(warmup + measured, len(blocks))
    return _Part(done, (trace.done_ns - trace.submit_ns) / 1e6, blocks, warmup, last)


def _spread(values: Sequence[int]) -> float:
    return float(max(values) - min(values))


def _inside(part: _Part, begin: int, end: int) -> NDArray[np.bool_]:
    return (part.done_ns > begin) & (part.done_ns <= end)


def _pooled(parts: Sequence[_Part], begin: int, end: int) -> NDArray[np.float64]:
    """Latencies of all workers inside the window, in order of completion."""
    masks = [_inside(part, begin, end) for part in parts]
    done = np.concatenate([p.done_ns[m] for p, m in zip(parts, masks, strict=True)])
    latency = np.concatenate([p.latency_ms[m] for p, m in zip(parts, masks, strict=True)])
    return latency[np.argsort(done, kind="stable")]


def _throughput(
    rates: NDArray[np.float64],
    items_per_s: float,
    items: float,
    batch_size: int,
    begin: int,
    end: int,
    block_ns: int,
) -> dict[str, Any]:
    interval = intervals.mean_ci(rates)
    known = math.isfinite(interval.half_width)
    half = interval.relative if known else None
    return {
        "items_per_s": items_per_s,
        "items_per_s_lo": items_per_s * (1 - half) if half is not None else None,
        "items_per_s_hi": items_per_s * (1 + half) if half is not None else None,
        "rel_half_width": half,
        "ci_level": intervals.CONFIDENCE,
        "ci_method": CI_METHOD,
        "n_blocks": len(rates),
        "block_s": block_ns / 1e9,
        "n_eff": interval.n_eff,
        "rho1": intervals.rho(rates) if len(rates) > 1 else None,
        "block_cv": float(rates.std(ddof=1) / rates.mean()) if len(rates) > 1 else None,
        "items": round(items),
        "batches": round(items / batch_size),
        "window_s": (end - begin) / 1e9,
    }


def _stability(rates: NDArray[np.float64]) -> dict[str, Any]:
    if len(rates) < 3:
        return {}
    step, drift = trends.largest_shift(rates), trends.drift(rates)
    return {
        "step_rel": step.relative,
        "step_z": step.z,
        "drift_rel": drift.relative,
        "drift_z": drift.z,
        "outlier_blocks": intervals.outliers(rates).either,
    }


def _latency(latency_ms: NDArray[np.float64]) -> dict[str, Any]:
    if not len(latency_ms):
        return {"latency_n": 0, "latency_basis": "batch"}
    columns: dict[str, Any] = {
        "latency_n": len(latency_ms),
        "latency_mean_ms": float(latency_ms.mean()),
        "latency_std_ms": float(latency_ms.std(ddof=1)) if len(latency_ms) > 1 else None,
        "latency_max_ms": float(latency_ms.max()),
        "latency_basis": "batch",
        "outlier_batches": intervals.outliers(latency_ms).either,
    }
    for name, p in PERCENTILES.items():
        span = intervals.percentile_ci(latency_ms, p)
        if span is not None:
            columns[f"latency_{name}_ms"] = span.value
            columns[f"latency_{name}_lo_ms"] = span.lo
            columns[f"latency_{name}_hi_ms"] = span.hi
    return columns


def _device_time(
    traces: Sequence[StreamTrace], parts: Sequence[_Part], begin: int, end: int
) -> dict[str, Any]:
    """Host time to submit, and the device's own times where it has a clock."""
    masks = [_inside(part, begin, end) for part in parts]
    pairs = list(zip(traces, masks, strict=True))
    enqueue = np.concatenate([(t.enqueued_ns - t.submit_ns)[m] for t, m in pairs]) / 1e6
    if not len(enqueue):
        return {}
    columns = {
        "enqueue_ms_mean": float(enqueue.mean()),
        "enqueue_ms_median": float(np.median(enqueue)),
    }
    if any(trace.spans_ns is None for trace in traces):
        return columns
    of_workers = [t.spans_ns[: len(m)][m] / 1e6 for t, m in pairs if t.spans_ns is not None]
    spans = np.concatenate(of_workers)
    h2d, compute, d2h = np.median(spans, axis=0)
    busy_ms = float(spans[:, 1].sum())
    return {
        **columns,
        "h2d_ms_median": float(h2d),
        "compute_ms_median": float(compute),
        "d2h_ms_median": float(d2h),
        "compute_cov": max(_cov(one[:, 1]) for one in of_workers if len(one)),
        "device_items_per_s": len(spans) * traces[0].batch_size * 1e3 / busy_ms * len(traces),
        "host_idle_frac": max(0.0, 1 - busy_ms * 1e6 / ((end - begin) * len(traces))),
    }


def _cov(times: NDArray[np.float64]) -> float:
    return float(times.std() / times.mean())


def _worker(
    trace: StreamTrace, part: _Part, rate: float, window: tuple[int, int], block_ns: int
) -> dict[str, Any]:
    begin, end = window
    rates = part.rates
    mask = _inside(part, begin, end)
    items = items_between(part.done_ns, begin, end, trace.batch_size)
    edges, counts = _histogram(part.latency_ms[mask])
    return {
        **_throughput(rates, rate, items, trace.batch_size, begin, end, block_ns),
        **_stability(rates),
        **_latency(part.latency_ms[mask]),
        **_device_time([trace], [part], begin, end),
        "warmup_s": begin / 1e9,
        "warmup_batches": int(np.searchsorted(part.done_ns, begin)),
        "latency_hist_edges_ms": edges,
        "latency_hist_counts": counts,
    }


def _histogram(latency_ms: NDArray[np.float64]) -> tuple[list[float], list[int]]:
    """Latencies in logarithmic buckets of 1 %, only the span that is used."""
    if not len(latency_ms):
        return [], []
    width = math.log(1.01)
    bucket = np.floor(np.log(np.maximum(latency_ms, 1e-6)) / width).astype(np.int64)
    low, high = int(bucket.min()), int(bucket.max())
    counts = np.bincount(bucket - low, minlength=high - low + 1)
    edges = np.exp(np.arange(low, high + 2) * width)
    return edges.tolist(), counts.tolist()


def _block_rows(rank: int, trace: StreamTrace, part: _Part) -> list[dict[str, Any]]:
    rows = []
    batch_size = trace.batch_size
    for k in range(part.last):
        first, last = int(part.blocks.edges[k]) + 1, int(part.blocks.edges[k + 1]) + 1
        latency = part.latency_ms[first:last]
        rows.append(
            {
                "worker": rank,
                "block": k,
                "phase": "warmup" if k < part.first else "measure",
                "t_start_ns": int(part.blocks.edge_ns[k]),
                "t_end_ns": int(part.blocks.edge_ns[k + 1]),
                "items": int(part.blocks.items[k]),
                "batches": int(part.blocks.items[k]) // batch_size,
                "latency_mean_ms": float(latency.mean()),
                "latency_max_ms": float(latency.max()),
                "gpu_busy_frac": _busy(trace, part, k),
            }
        )
    return rows


def _busy(trace: StreamTrace, part: _Part, k: int) -> float | None:
    """Compute time of the device in block k over its length, at most 1; None without a clock."""
    if trace.spans_ns is None:
        return None
    first, last = int(part.blocks.edges[k]) + 1, int(part.blocks.edges[k + 1]) + 1
    length = int(part.blocks.edge_ns[k + 1] - part.blocks.edge_ns[k])
    return min(float(trace.spans_ns[first:last, 1].sum()) / length, 1.0)
