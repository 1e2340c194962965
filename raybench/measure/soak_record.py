"""What the driver keeps of a soak: blocks summed to intervals, each of which gives rows when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.measure.blocks import by_cell
from raybench.measure.soak_sums import BlockSeries, SoakSums
from raybench.measure.warmup import WarmUp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.measure.running_stream import StreamSnapshot
    from raybench.measure.soak_block import SoakBlock
    from raybench.measure.telemetry_columns import Readings


@dataclass(frozen=True)
class SoakInterval:
    """An interval of a soak that has ended.

    Attributes:
        number: from 0.
        workers: sums of each worker, by rank.
        rates: items/s of each of its blocks, by rank.
    """

    number: int
    workers: Sequence[SoakSums]
    rates: Sequence[NDArray[np.float64]]


class SoakRecord:
    """Sums over the blocks of all workers, by interval and of the whole window.

    Args:
        workers: number of workers.
        batch_size: items of every batch.
        block_ns: length of a grid cell.
        blocks: cells in an interval.

    Attributes:
        whole: sums over the window of each worker, by rank.
        series: every block of each worker, by rank; 80 bytes each.
        readings: last of each worker, by rank; None before the first block.
        first: grid cell at which the window begins; None while warming up.
        last: cell after its last.
        warm_up: how the warm-up ended.
        ended: number of intervals that have ended.
    """

    def __init__(self, workers: int, batch_size: int, block_ns: int, blocks: int) -> None:
        self.batch_size = batch_size
        self.block_ns = block_ns
        self.blocks = blocks
        self.whole = [SoakSums(batch_size) for _ in range(workers)]
        self.series = [BlockSeries(block_ns) for _ in range(workers)]
        self.readings: list[Readings | None] = [None] * workers
        self.first: int | None = None
        self.last = 0
        self.warm_up = WarmUp("not_yet")
        self._waiting: list[list[SoakBlock]] = [[] for _ in range(workers)]
        """Blocks of the warm-up, and of intervals that have not begun for every worker."""
        self.ended = 0
        self._open = [SoakSums(batch_size) for _ in range(workers)]
        self._rates: list[list[float]] = [[] for _ in range(workers)]

    def add(self, snapshots: Sequence[StreamSnapshot]) -> None:
        """Take the new blocks of every worker, by rank."""
        for rank, seen in enumerate(snapshots):
            for block in seen.blocks:
                self.series[rank].add(block)
                self._waiting[rank].append(block)
                self.readings[rank] = block.readings

    def begin_window(self, warm_up: WarmUp, measured_blocks: int) -> None:
        """Place the window after the warm-up, in the cells that all workers have."""
        begins = warm_up.window_start
        if self.first is None and begins is not None and all(len(each) for each in self.series):
            self.warm_up = warm_up
            self.first = max(series.first_cell for series in self.series) + begins
            self.last = self.first + measured_blocks

    @property
    def is_complete(self) -> bool:
        """Whether every block of the window is there."""
        return self.first is not None and self._end() >= self.last

    def _end(self) -> int:
        return min(series.end_cell for series in self.series)

    def ended_intervals(self) -> list[SoakInterval]:
        """Return the intervals that have ended for all workers since the last call."""
        ended: list[SoakInterval] = []
        while self.first is not None and self._takes_all():
            ended.append(self._end_interval())
        return ended

    def cut_short(self) -> list[SoakInterval]:
        """End the open interval with what there is of it, at the end of the stream."""
        rest = self.ended_intervals()
        if self.first is not None:
            self.last = min(self.last, max(self._end(), self.first))
            if all(sums.batches for sums in self._open):
                rest.append(self._end_interval())
        return rest

    def _takes_all(self) -> bool:
        """Add the waiting blocks of the open interval; return whether it has ended."""
        assert self.first is not None
        end = min(self.first + (self.ended + 1) * self.blocks, self.last)
        for rank, waiting in enumerate(self._waiting):
            while waiting and waiting[0].cell < end:
                block = waiting.pop(0)
                if block.cell >= self.first:
                    self._open[rank].add(block)
                    self.whole[rank].add(block)
                    rate = block.batches * self.batch_size / block.seconds
                    self._rates[rank].append(rate)
        begun = end > self.first + self.ended * self.blocks
        return begun and self._end() >= end and all(sums.batches for sums in self._open)

    def _end_interval(self) -> SoakInterval:
        rates = [np.array(each, np.float64) for each in self._rates]
        interval = SoakInterval(self.ended, self._open, rates)
        self.ended += 1
        self._open = [SoakSums(self.batch_size) for _ in self.whole]
        self._rates = [[] for _ in self.whole]
        for sums in self.whole:
            sums.events.clear()  # they are in the rows of their interval
        return interval

    def rates(self, rank: int) -> NDArray[np.float64]:
        """Return a worker's items/s in each grid cell of the window."""
        assert self.first is not None
        series = self.series[rank]
        cells = by_cell(series.rates * self.batch_size, series.edge_ns, self.block_ns)
        return cells[self.first - series.first_cell : self.last - series.first_cell]
