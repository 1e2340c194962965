"""The streams of a trial cut into blocks on one grid, worker by worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import EngineFailure
from raybench.measure import stalls
from raybench.measure.blocks import Blocks, by_cell, cut, items_between
from raybench.measure.open_stream import OpenTrace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.measure.stream import StreamTrace


@dataclass(frozen=True)
class WorkerBlocks:
    """The trace of one worker, cut into blocks.

    Attributes:
        trace: as recorded.
        done_ns: completions from the common start on, shape (n,).
        latency_ms: of each batch, shape (n,); in open loop that of its first item.
        blocks: from the common start on.
        block_ns: length of a grid cell.
        measured: first grid cell of the window, and the cell after its last.
        stalls: of the whole stream.
    """

    trace: StreamTrace
    done_ns: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    blocks: Blocks
    block_ns: int
    measured: tuple[int, int]
    stalls: tuple[stalls.Stall, ...]

    @property
    def first(self) -> int:
        """Number of the block that holds the beginning of the window."""
        return int(np.searchsorted(self.blocks.cells, self.measured[0], side="right")) - 1

    @property
    def last(self) -> int:
        """Number of the block after the one that holds the end of the window."""
        return int(np.searchsorted(self.blocks.cells, self.measured[1]))

    @property
    def begin_ns(self) -> int:
        """Time of the edge at which this worker's window begins, from the common start."""
        return int(self.blocks.edge_ns[self.first])

    @property
    def end_ns(self) -> int:
        """Time of the edge at which this worker's window ends, from the common start."""
        return int(self.blocks.edge_ns[self.last])

    @property
    def arrivals(self) -> OpenTrace:
        """The trace of an open loop."""
        assert isinstance(self.trace, OpenTrace)
        return self.trace

    def items_between(self, begin_ns: float, end_ns: float) -> float:
        """Return the items completed between two instants, with partial batches in proportion."""
        if isinstance(self.trace, OpenTrace):
            items = np.interp([begin_ns, end_ns], self.done_ns, self.trace.served)
            return float(items[1] - items[0])
        return items_between(self.done_ns, begin_ns, end_ns, self.trace.batch_size)

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items per second in each grid cell of the window."""
        return self._by_cell(self.blocks.rates)

    @property
    def stalled_ns(self) -> NDArray[np.float64]:
        """Time without a completion in each block, warm-up included, in ns."""
        if not self.stalls:
            return np.zeros(len(self.blocks))
        ends = [end for stall in self.stalls for end in (stall.start_ns, stall.end_ns)]
        lengths = [length for stall in self.stalls for length in (0, stall.length_ns)]
        return np.diff(np.interp(self.blocks.edge_ns, ends, np.cumsum(lengths)))

    @property
    def stalled_cells(self) -> NDArray[np.bool_]:
        """Which grid cells of the window lie in a block with a stall."""
        return self._by_cell(self.stalled_ns) > 0

    def _by_cell(self, per_block: NDArray[np.float64]) -> NDArray[np.float64]:
        begin, end = (cell - int(self.blocks.cells[0]) for cell in self.measured)
        return by_cell(per_block, self.blocks.edge_ns, self.block_ns)[begin:end]


def cut_traces(
    traces: Sequence[StreamTrace], warmup: int, measured: int, block_ns: int, min_batches: int
) -> list[WorkerBlocks]:
    """Cut all traces on the same grid, and place the window in the cells that all of them have."""
    done = [trace.done_ns - trace.start_ns for trace in traces]
    blocks = [
        _cut(trace, done_ns, block_ns, min_batches)
        for done_ns, trace in zip(done, traces, strict=True)
    ]
    first = max((int(each.cells[0]) for each in blocks if len(each)), default=0) + warmup
    last = min([first + measured, *(int(each.cells[-1]) if len(each) else 0 for each in blocks)])
    if first >= last:
        raise EngineFailure(
            "A worker completed no whole block after the warm-up: its batches are too slow for this "
            "preset. Use a smaller batch_size or a longer measure.max_s."
        )
    return [
        WorkerBlocks(
            trace=trace,
            done_ns=done_ns,
            latency_ms=(trace.done_ns - _began_ns(trace)) / 1e6,
            blocks=each,
            block_ns=block_ns,
            measured=(first, last),
            stalls=_stalls(trace, done_ns),
        )
        for trace, done_ns, each in zip(traces, done, blocks, strict=True)
    ]


def _cut(trace: StreamTrace, done_ns: NDArray[np.int64], block_ns: int, min_batches: int) -> Blocks:
    blocks = cut(done_ns, 0, block_ns, min_batches, trace.batch_size)
    if isinstance(trace, OpenTrace) and len(blocks):
        return replace(blocks, items=np.diff(trace.served[blocks.edges]))
    return blocks


def _began_ns(trace: StreamTrace) -> NDArray[np.int64]:
    """Return when the time of each batch begins."""
    return trace.first_ns if isinstance(trace, OpenTrace) else trace.submit_ns


def _stalls(trace: StreamTrace, done_ns: NDArray[np.int64]) -> tuple[stalls.Stall, ...]:
    if isinstance(trace, OpenTrace):
        return stalls.find_busy(done_ns, trace.service_ns, trace.computed)
    return stalls.find(done_ns, trace.inflight)


def block_rows(rank: int, worker: WorkerBlocks) -> list[dict[str, Any]]:
    """Return the rows in `blocks` of one worker, warm-up included.

    A block has the number of the grid cell that it begins in, so that blocks of the same number are
    of the same second in every worker. One that a stall stretches stands for the numbers that follow.

    Args:
        rank: of the worker.
        worker: its blocks.
    """
    blocks, stalled_ns = worker.blocks, worker.stalled_ns
    rows = []
    for k in range(worker.last):
        first, last = int(blocks.edges[k]) + 1, int(blocks.edges[k + 1]) + 1
        latency = worker.latency_ms[first:last]
        rows.append(
            {
                "worker": rank,
                "block": int(blocks.cells[k]),
                "phase": "warmup" if k < worker.first else "measure",
                "t_start_ns": int(blocks.edge_ns[k]),
                "t_end_ns": int(blocks.edge_ns[k + 1]),
                "items": int(blocks.items[k]),
                "batches": last - first,
                "latency_mean_ms": float(latency.mean()),
                "latency_max_ms": float(latency.max()),
                "gpu_busy_frac": _busy_frac(worker, k),
                "stalled_s": float(stalled_ns[k]) / 1e9,
            }
        )
    return rows


def _busy_frac(worker: WorkerBlocks, k: int) -> float | None:
    """Return the device's share of compute time in block k, at most 1; None without a clock."""
    if worker.trace.spans_ns is None:
        return None
    blocks = worker.blocks
    first, last = int(blocks.edges[k]) + 1, int(blocks.edges[k + 1]) + 1
    length = int(blocks.edge_ns[k + 1] - blocks.edge_ns[k])
    return min(float(worker.trace.spans_ns[first:last, 1].sum()) / length, 1.0)
