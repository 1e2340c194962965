"""Reduces the record of a soak to the columns of its rows, as `summary` does with stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import EngineFailure
from raybench.measure import telemetry_columns
from raybench.measure.soak_sums import latency_columns
from raybench.measure.summary import Summary, Window, stability_columns, throughput_columns
from raybench.stats.sketch import QuantileSketch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.measure.soak_record import SoakInterval, SoakRecord
    from raybench.measure.soak_sums import SoakSums

Columns = dict[str, Any]


def summarise_soak(record: SoakRecord) -> Summary:
    """Return the columns of a soak over the blocks that all of its workers have.

    Rate, interval, drift and counts are those of `summarise`. Percentiles come from sketches, without
    intervals of their own; columns that need the time of each batch are null.

    Args:
        record: whose window has begun.

    Raises:
        EngineFailure: when a worker completed no whole block after the warm-up.
    """
    if record.first is None or record.first >= record.last:
        raise EngineFailure(
            "A worker completed no whole block after the warm-up. Use a smaller batch_size, shorter "
            "blocks (measure.block_s) or a longer measure.max_s."
        )
    ranks = range(len(record.series))
    edges = [_window_edges(record, rank) for rank in ranks]
    window = Window(
        begin=max(begin for begin, _ in edges),
        end=min(end for _, end in edges),
        block_ns=record.block_ns,
    )
    rates = [record.rates(rank) for rank in ranks]
    items = [_items(record, rank, window) for rank in ranks]
    workers = [_worker(record.whole[rank], rates[rank], items[rank], window) for rank in ranks]
    return Summary(
        trial=_trial(record, rates, items, window, workers),
        workers=tuple(workers),
        blocks=tuple(
            row
            for rank in ranks
            for row in record.series[rank].rows(rank, record.batch_size, record.first)
        ),
        window_ns=(window.begin, window.end),
    )


def interval_columns(interval: SoakInterval, rank: int, window_ns: int) -> Columns:
    """Return the columns of one worker's row in `soak`.

    Args:
        interval: that has ended.
        rank: of the worker.
        window_ns: beginning of the window, since the common start.
    """
    sums, rates = interval.workers[rank], interval.rates[rank]
    window = Window(sums.begin_ns, sums.end_ns, 1)
    columns = throughput_columns(rates, sums.items / sums.seconds, sums.items, 1, window)
    return {
        "interval": interval.number,
        "worker": rank,
        "t_start_s": (sums.begin_ns - window_ns) / 1e9,
        "window_s": sums.seconds,
        "items": sums.items,
        "batches": sums.batches,
        **{name: columns[name] for name in ("items_per_s", "items_per_s_lo", "items_per_s_hi")},
        "n_blocks": len(rates),
        **sums.latency_columns(),
        **sums.stall_columns(window_ns),
        **sums.hardware,
    }


def _window_edges(record: SoakRecord, rank: int) -> tuple[int, int]:
    """Return the times of the edges at which a worker's window begins and ends."""
    assert record.first is not None
    edge_ns = record.series[rank].edge_ns
    cells = edge_ns // record.block_ns
    first = int(np.searchsorted(cells, record.first, side="right")) - 1
    last = int(np.searchsorted(cells, record.last))
    return int(edge_ns[first]), int(edge_ns[min(last, len(edge_ns) - 1)])


def _items(record: SoakRecord, rank: int, window: Window) -> float:
    """Return the items completed in the window, even within a block."""
    series = record.series[rank]
    done = np.concatenate([[0.0], np.cumsum(series.batches)])
    begin, end = np.interp([window.begin, window.end], series.edge_ns, done)
    return float(end - begin) * record.batch_size


def _worker(sums: SoakSums, rates: NDArray[np.float64], items: float, window: Window) -> Columns:
    seconds = (window.end - window.begin) / 1e9
    edges, counts = sums.times["latency"].buckets()
    return {
        **throughput_columns(rates, items / seconds, items, sums.batch_size, window),
        **sums.stall_columns(window.begin),
        "stalled_workers": int(sums.stalls > 0),
        "items_per_s_without_stalls": items / max(seconds - sums.lost_ns / 1e9, 1e-9),
        **stability_columns(rates),
        **sums.latency_columns(),
        **_device_time([sums], window),
        "warmup_s": window.begin / 1e9,
        "latency_hist_edges_ms": edges,
        "latency_hist_counts": counts,
        **sums.hardware,
    }


def _trial(
    record: SoakRecord,
    rates: Sequence[NDArray[np.float64]],
    items: Sequence[float],
    window: Window,
    workers: Sequence[Columns],
) -> Columns:
    seconds = (window.end - window.begin) / 1e9
    own = [count / seconds for count in items]
    aggregate = np.sum(rates, axis=0)
    readings = [each for each in record.readings if each is not None]
    return {
        **throughput_columns(aggregate, sum(own), sum(items), record.batch_size, window),
        **_stalls(record.whole, workers, window),
        **stability_columns(aggregate),
        **latency_columns(_together(record.whole, "latency")),
        **_device_time(record.whole, window),
        **telemetry_columns.trial_columns(workers, readings, round(sum(items)), 1),
        "items_per_s_per_worker": float(np.mean(own)),
        "imbalance": max(own) / min(own) - 1,
        "slowest_worker": int(np.argmin(own)),
        "warmup_s": window.begin / 1e9,
    }


def _stalls(whole: Sequence[SoakSums], workers: Sequence[Columns], window: Window) -> Columns:
    columns: Columns = {
        "stalls": sum(sums.stalls for sums in whole),
        "stalled_workers": sum(sums.stalls > 0 for sums in whole),
        "stalled_s": sum(sums.stalled_ns for sums in whole) / 1e9,
        "items_per_s_without_stalls": sum(each["items_per_s_without_stalls"] for each in workers),
    }
    longest = [(sums.longest[1], rank) for rank, sums in enumerate(whole) if sums.longest]
    if not longest:
        return columns
    _, worker = max(longest)
    own = whole[worker].stall_columns(window.begin)
    names = ("longest_stall_s", "longest_stall_at_s")
    return {**columns, **{name: own[name] for name in names}, "longest_stall_worker": worker}


def _together(whole: Sequence[SoakSums], name: str) -> QuantileSketch:
    together = QuantileSketch()
    for sums in whole:
        together.merge(sums.times[name])
    return together


def _device_time(whole: Sequence[SoakSums], window: Window) -> Columns:
    """Return the host's time to submit, and the device's own times where it has a clock."""
    enqueue, compute = _together(whole, "enqueue"), _together(whole, "compute")
    columns = {"enqueue_ms_mean": enqueue.mean, "enqueue_ms_median": enqueue.quantile(0.5)}
    if not compute.n:
        return columns
    count, length_ms = len(whole), (window.end - window.begin) / 1e6
    return {
        **columns,
        "h2d_ms_median": _together(whole, "h2d").quantile(0.5),
        "compute_ms_median": compute.quantile(0.5),
        "d2h_ms_median": _together(whole, "d2h").quantile(0.5),
        "compute_cov": max(_cov(sums.times["compute"]) for sums in whole),
        "device_items_per_s": compute.n * whole[0].batch_size * 1e3 / compute.total * count,
        "host_idle_frac": max(0.0, 1 - compute.total / (length_ms * count)),
    }


def _cov(sketch: QuantileSketch) -> float:
    return (sketch.deviation or 0.0) / sketch.mean if sketch.mean else 0.0
