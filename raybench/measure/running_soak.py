"""The stream of a soak while it runs: its blocks become sums and sketches, and its stamps are dropped.

So a day takes as much memory as a minute. The timed loop is that of any stream; what is described here
runs in the thread that answers snapshots, about once a second.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from raybench.machine.gpu_telemetry import temperatures_c
from raybench.measure import stalls, telemetry_columns
from raybench.measure.running_stream import StreamSnapshot
from raybench.measure.sensors import up_to
from raybench.measure.soak_block import TIMES, SoakBlock, events_of
from raybench.measure.stream import Stream
from raybench.stats.sketch import QuantileSketch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raybench.engines.base import Engine
    from raybench.experiment import Point
    from raybench.measure.sensors import Sensors
    from raybench.measure.stream import StreamTrace

CONTEXT = 4096
"""A gap without a completion is compared with those of so many batches before it."""
PATIENCE_NS = 20_000_000_000
"""A block waits at most so long for the sensors' samples of its end."""


class RunningSoak:
    """A stream whose batches are folded into blocks as they are completed.

    Args:
        point: that is measured.
        engine: that computes it.
        sensors: of its device and host.
        start_ns: common start by this process's clock.
        block_ns: length of a block.

    Attributes:
        stream: the stream itself.
    """

    def __init__(
        self, point: Point, engine: Engine, sensors: Sensors, start_ns: int, block_ns: int
    ) -> None:
        self.stream = Stream(engine, point.batch_size, point.inflight)
        self._point = point
        self._sensors = sensors
        self._start_ns = start_ns
        self._block_ns = block_ns
        self._folded = 0
        self._cell = 0
        self._edges: list[tuple[int, int]] = []
        """Number and time of the last edge; empty before the first."""
        self._recent = np.empty(0, np.int64)
        self._stalls: list[stalls.Stall] = []
        self._times = _sketches()
        self._cut: list[SoakBlock] = []
        """Blocks whose end the sensors have not sampled yet."""

    def snapshot(self, first_edge: int) -> StreamSnapshot:
        """Fold the new batches and return the edges and blocks since the last snapshot.

        Args:
            first_edge: not used: what was returned once is dropped.
        """
        batches = self.stream.trace(self._folded)
        edges = self._fold(batches)
        self.stream.forget(self._folded)
        blocks = self._sampled()
        if blocks:
            gc.collect(1)  # paused while the stream runs, and a day of cycles would not be flat
        samples = self._sensors.gpu.samples
        edge_ns = np.array([ns for _, ns in edges], np.int64)
        latency_ns = batches.done_ns - batches.submit_ns
        return StreamSnapshot(
            self._folded,
            np.array([number for number, _ in edges], np.int64),
            edge_ns - self._start_ns,
            temperatures_c(samples, edge_ns),
            float(np.median(latency_ns)) / 1e6 if len(latency_ns) else None,
            samples[-1].power_w if samples else None,
            samples[-1].temp_c if samples else None,
            blocks=blocks,
        )

    def _fold(self, batches: StreamTrace) -> list[tuple[int, int]]:
        """Add batches to the open block, close it at each edge, and return the new edges."""
        done_ns = batches.done_ns
        self._stalls += self._new_stalls(done_ns)
        times = _times_ms(batches)
        begin, new = 0, []
        for place in self._edge_places(done_ns):
            self._add(times, slice(begin, place + 1))
            new.append((self._folded + place, int(done_ns[place])))
            self._close(new[-1])
            begin = place + 1
        self._add(times, slice(begin, None))
        self._folded += len(done_ns)
        return new

    def _add(self, times: dict[str, NDArray[np.float64]], batches: slice) -> None:
        for name, values in times.items():
            self._times[name].add(values[batches])

    def _edge_places(self, done_ns: NDArray[np.int64]) -> list[int]:
        """Return the places of the new edges among the new completions, as `blocks.cut` finds them."""
        places: list[int] = []
        last = self._edges[-1][0] if self._edges else None
        while len(done_ns):
            point_ns = self._start_ns + self._cell * self._block_ns
            place = int(np.searchsorted(done_ns, point_ns))
            if last is not None:
                place = max(place, last + self._point.measure.block_min_batches - self._folded)
            if place < len(done_ns) and done_ns[place] < point_ns + self._block_ns:
                places.append(place)
                last = self._folded + place
            elif done_ns[-1] < point_ns + self._block_ns:
                break
            self._cell += 1
        return places

    def _close(self, edge: tuple[int, int]) -> None:
        """End the open block at an edge; what was before the first edge is in no block."""
        number, ns = edge
        if self._edges:
            (before, begin_ns), end_ns = self._edges[-1], ns - self._start_ns
            ended = tuple(stall for stall in self._stalls if stall.end_ns <= end_ns)
            begin_ns -= self._start_ns
            self._cut.append(
                SoakBlock(
                    cell=begin_ns // self._block_ns,
                    begin_ns=begin_ns,
                    end_ns=end_ns,
                    batches=number - before,
                    times={name: sketch for name, sketch in self._times.items() if sketch.n},
                    stalls=ended,
                )
            )
        self._stalls = [stall for stall in self._stalls if stall.end_ns > ns - self._start_ns]
        self._times = _sketches()
        self._edges = [edge]

    def _new_stalls(self, done_ns: NDArray[np.int64]) -> list[stalls.Stall]:
        if not len(done_ns):
            return []
        before = self._recent[-1] if len(self._recent) else -1
        whole = np.concatenate([self._recent, done_ns - self._start_ns])
        self._recent = whole[-CONTEXT:].copy()
        return [
            stall for stall in stalls.find(whole, self._point.inflight) if stall.end_ns > before
        ]

    def _sampled(self) -> tuple[SoakBlock, ...]:
        """Return the blocks whose end every sensor has sampled, with what they read."""
        whole = []
        while self._cut:
            block = self._cut[0]
            end_ns = self._start_ns + block.end_ns
            waited_ns = int(self._recent[-1]) - block.end_ns
            if not self._sensors.cover(end_ns) and waited_ns < PATIENCE_NS:
                break
            whole.append(self._with_readings(self._cut.pop(0)))
            self._sensors.forget(end_ns)
        return tuple(whole)

    def _with_readings(self, block: SoakBlock) -> SoakBlock:
        begin_ns, end_ns = self._start_ns + block.begin_ns, self._start_ns + block.end_ns
        readings = up_to(self._sensors.readings(), end_ns)
        items = block.batches * self._point.batch_size
        return replace(
            block,
            hardware=telemetry_columns.worker_columns(readings, begin_ns, end_ns, items),
            events=events_of(readings, block.stalls, begin_ns, self._start_ns),
            readings=replace(readings, gpu=(), host=readings.host[-1:]),
        )


def _sketches() -> dict[str, QuantileSketch]:
    return {name: QuantileSketch() for name in TIMES}


def _times_ms(batches: StreamTrace) -> dict[str, NDArray[np.float64]]:
    """Return the known times of each batch in ms, by name of `TIMES`."""
    times = {
        "latency": (batches.done_ns - batches.submit_ns) / 1e6,
        "enqueue": (batches.enqueued_ns - batches.submit_ns) / 1e6,
    }
    if batches.spans_ns is not None:
        times |= dict(zip(TIMES[2:], batches.spans_ns.T / 1e6, strict=True))
    return times
