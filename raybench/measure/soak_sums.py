"""Sums over the blocks of one worker of a soak: of an interval, and of the whole window."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.measure.over_time import ColumnsOverTime
from raybench.measure.soak_block import TIMES
from raybench.measure.summary import PERCENTILES
from raybench.stats.intervals import percentile_least
from raybench.stats.sketch import QuantileSketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raybench.measure.soak_block import SoakBlock, SoakEvent

FIELDS = (
    *("cell", "t_start_ns", "t_end_ns", "batches", "latency_mean_ms", "latency_max_ms"),
    *("sm_clock_mhz", "temp_c", "power_w", "stalled_s"),
)
"""What is kept of each block: 80 bytes."""


class SoakSums:
    """What is kept of some consecutive blocks of one worker.

    Args:
        batch_size: items of every batch.

    Attributes:
        batch_size: items of every batch.
        batches: completed in them.
        begin_ns: completion that they begin with, since the common start.
        end_ns: completion that they end with.
        times: sketch of each time of a batch, in ms.
        stalls: number of stalls.
        stalled_ns: their length.
        lost_ns: what they took from the stream.
        longest: start and length of the longest in ns; None without one.
        events: in order.
    """

    def __init__(self, batch_size: int) -> None:
        self.batches = 0
        self.begin_ns = self.end_ns = 0
        self.times = {name: QuantileSketch() for name in TIMES}
        self.stalls, self.stalled_ns, self.lost_ns = 0, 0, 0.0
        self.longest: tuple[int, int] | None = None
        self.events: list[SoakEvent] = []
        self.batch_size = batch_size
        self._hardware = ColumnsOverTime()

    def add(self, block: SoakBlock) -> None:
        """Add the next block."""
        if not self.batches:
            self.begin_ns = block.begin_ns
        self.end_ns = block.end_ns
        self.batches += block.batches
        for name, sketch in block.times.items():
            self.times[name].merge(sketch)
        self._hardware.add(block.hardware, block.seconds)
        self.events += block.events
        for stall in block.stalls:
            self.stalls += 1
            self.stalled_ns += stall.length_ns
            self.lost_ns += stall.lost_ns
            if self.longest is None or stall.length_ns > self.longest[1]:
                self.longest = stall.start_ns, stall.length_ns

    @property
    def items(self) -> int:
        """Items completed."""
        return self.batches * self.batch_size

    @property
    def seconds(self) -> float:
        """Time from the first completion to the last."""
        return (self.end_ns - self.begin_ns) / 1e9

    @property
    def hardware(self) -> dict[str, Any]:
        """Columns of device and host over all of the blocks."""
        return self._hardware.columns(self.items)

    def latency_columns(self) -> dict[str, Any]:
        """Return the columns of latencies, percentiles only where there are enough."""
        return latency_columns(self.times["latency"])

    def stall_columns(self, origin_ns: int) -> dict[str, Any]:
        """Return the columns of stalls; that of the longest counts from `origin_ns`."""
        columns: dict[str, Any] = {"stalls": self.stalls, "stalled_s": self.stalled_ns / 1e9}
        if self.longest is not None:
            begin_ns, length_ns = self.longest
            columns["longest_stall_s"] = length_ns / 1e9
            columns["longest_stall_at_s"] = (begin_ns - origin_ns) / 1e9
        return columns


def latency_columns(sketch: QuantileSketch) -> dict[str, Any]:
    """Return the columns of latencies from their sketch; it gives no interval of a percentile."""
    columns: dict[str, Any] = {"latency_n": sketch.n, "latency_basis": "batch"}
    if not sketch.n:
        return columns
    return {
        **columns,
        "latency_mean_ms": sketch.mean,
        "latency_std_ms": sketch.deviation,
        "latency_max_ms": sketch.largest,
        **{
            f"latency_{name}_ms": sketch.quantile(p)
            for name, p in PERCENTILES.items()
            if sketch.n >= percentile_least(p)
        },
    }


class BlockSeries:
    """A few numbers of every block of one worker, in the order of time.

    Args:
        block_ns: length of a grid cell.
    """

    def __init__(self, block_ns: int) -> None:
        self._values = array("d")
        self._block_ns = block_ns
        self._end_cell = 0

    def add(self, block: SoakBlock) -> None:
        """Append a block."""
        self._end_cell = block.end_ns // self._block_ns
        latency, read = block.times.get("latency", QuantileSketch()), block.hardware
        stalled_ns = sum(stall.length_ns for stall in block.stalls)
        values = (
            *(block.cell, block.begin_ns, block.end_ns, block.batches, latency.mean),
            *(latency.largest, read.get("sm_clock_mhz_mean"), read.get("temp_c_end")),
            *(read.get("avg_power_w"), stalled_ns / 1e9),
        )
        self._values.extend(np.nan if value is None else value for value in values)

    def __len__(self) -> int:
        return len(self._values) // len(FIELDS)

    @property
    def first_cell(self) -> int:
        """Grid cell of the first edge."""
        return int(self._values[0])

    @property
    def end_cell(self) -> int:
        """Grid cell of the last edge: the one after the last that is whole; 0 without a block."""
        return self._end_cell

    @property
    def edge_ns(self) -> NDArray[np.int64]:
        """Time of each edge since the common start, one more than the blocks."""
        table = self._table
        return np.concatenate([table[:1, 1], table[:, 2]]).astype(np.int64)

    @property
    def batches(self) -> NDArray[np.float64]:
        """Batches of each block, shape (n,)."""
        return self._table[:, 3]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Batches per second of each block, shape (n,)."""
        table = self._table
        rates: NDArray[np.float64] = table[:, 3] * 1e9 / (table[:, 2] - table[:, 1])
        return rates

    @property
    def _table(self) -> NDArray[np.float64]:
        return np.array(self._values, np.float64).reshape(-1, len(FIELDS))

    def rows(self, worker: int, batch_size: int, first_cell: int) -> list[dict[str, Any]]:
        """Return the rows in `blocks`; those before `first_cell` are warm-up."""
        rows = []
        for values in self._table.tolist():
            read = dict(zip(FIELDS, values, strict=True))
            batches = int(read.pop("batches"))
            cell = int(read.pop("cell"))
            rows.append(
                {
                    "worker": worker,
                    "block": cell,
                    "phase": "warmup" if cell < first_cell else "measure",
                    "t_start_ns": int(read.pop("t_start_ns")),
                    "t_end_ns": int(read.pop("t_end_ns")),
                    "items": batches * batch_size,
                    "batches": batches,
                    **{name: None if np.isnan(value) else value for name, value in read.items()},
                }
            )
        return rows
