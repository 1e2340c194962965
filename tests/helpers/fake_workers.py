"""Workers without processes, devices or Ray, for tests of `raybench.execute`.

A script, called at every phase of every group, decides what goes wrong; streams run on a clock of
their own that only `FakeStream.wait` moves, so that an hour of measuring takes a millisecond.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from raybench.engines.base import EngineInfo, Layer
from raybench.errors import Interrupted, PhaseTimeout, PointError, WorkerDied
from raybench.machine.devices import Device
from raybench.measure.blocks import Blocks, cut
from raybench.measure.clock import Clock, ClockDrift
from raybench.measure.output_bits import NO_BITS, OutputBits
from raybench.measure.prepared import Measurement, Prepared, WorkerHost
from raybench.measure.running_stream import StreamSnapshot
from raybench.measure.soak_block import SoakBlock
from raybench.measure.stream import StreamTrace
from raybench.measure.telemetry_columns import Readings, worker_columns
from raybench.models.comparison import OutputComparison
from raybench.models.model import Model
from raybench.stats.sketch import QuantileSketch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from raybench.experiment import Point
    from raybench.planning.slots import DeviceSlot

    Script = Callable[[str, "FakeWorkerGroup"], None]

S = 1_000_000_000


def works(phase: str, group: FakeWorkerGroup) -> None:
    """Script in which nothing goes wrong."""


def fails(
    error: type[PointError],
    phase: str,
    on: DeviceSlot | None = None,
    times: int = 1_000_000,
) -> Script:
    """Script that raises an error in a phase, on one slot or on every group's first, so often."""
    left = [times]

    def script(now: str, group: FakeWorkerGroup) -> None:
        slot = on or group.slots[0]
        if now == phase and slot in group.slots and left[0]:
            left[0] -= 1
            raise concerning(error(f"broken in {phase}"), group.slots.index(slot))

    return script


def loses_node(node: str, phase: str) -> Script:
    """Script in which a node dies in a phase of the first group that uses it."""

    def script(now: str, group: FakeWorkerGroup) -> None:
        ranks = [rank for rank, slot in enumerate(group.slots) if slot.node == node]
        if now == phase and ranks:
            group.reservation.dead_nodes.add(node)
        if ranks and node in group.reservation.dead_nodes:
            error = WorkerDied(f"connection lost in {now}")
            raise concerning(error, *ranks)

    return script


def concerning(error: PointError, *ranks: int) -> PointError:
    """Set the ranks of the workers that an error concerns."""
    error.ranks = ranks
    return error


@dataclass(frozen=True)
class FakeMember:
    node_id: str
    host: WorkerHost


@dataclass
class FakeReservation:
    """Slots without devices; see `raybench.execute.workers.Reservation`.

    Attributes:
        script: called with every phase ("start", "prepare", "build", "measure", "finish",
            "layers", "release") and its group; raises what goes wrong, and may block.
        batch_s: time of a batch at speed 1.
        speed: of a worker, by rank and seconds since the common start; called once a batch.
        hang_at_s: when the streams stop completing batches; None for never.
        end_at_s: when the streams end by themselves; None for their backstop.
        outputs_sha256: of a worker, by rank, "start" and "end"; None for an engine without outputs.
        calls: what was asked for, in order: ("start", slot), ("park", slot), ("stop", slot).
        workers: process id and reuse key of the worker on each slot.
        closed: set by `close`; a script may wait for it to behave like a worker that is killed.
    """

    slots: Sequence[DeviceSlot]
    busy: str | None = None
    script: Script = works
    batch_s: float = 0.01
    speed: Callable[[int, float], float] = lambda rank, at_s: 1.0
    hang_at_s: float | None = None
    end_at_s: float | None = None
    outputs_sha256: Callable[[int, str], str | None] = lambda rank, when: None
    calls: list[tuple[str, DeviceSlot]] = field(default_factory=list)
    groups: list[FakeWorkerGroup] = field(default_factory=list)
    workers: dict[DeviceSlot, tuple[int, str]] = field(default_factory=dict)
    dead_nodes: set[str] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start_workers(
        self,
        slots: Sequence[DeviceSlot],
        point: Point,
        label: str,
        reuse_key: str,
        timeout_s: float,
    ) -> FakeWorkerGroup:
        if self.closed.is_set():
            raise Interrupted("The run was ended.")
        pids, fresh = [], True
        with self._lock:
            for slot in slots:
                self.calls.append(("start", slot))
                pid, key = self.workers.get(slot, (0, ""))
                reused = bool(reuse_key) and key == reuse_key
                pids.append(pid if reused else len(self.calls))
                fresh = fresh and not reused
                self.workers[slot] = (pids[-1], "")
            group = FakeWorkerGroup(self, tuple(slots), point, pids, fresh)
            self.groups.append(group)
        self.script("start", group)
        return group

    def park(self, slots: Sequence[DeviceSlot], reuse_key: str) -> None:
        with self._lock:
            for slot in slots:
                self.calls.append(("park", slot))
                self.workers[slot] = (self.workers[slot][0], reuse_key)

    def stop(self, slots: Sequence[DeviceSlot]) -> None:
        with self._lock:
            for slot in slots:
                self.calls.append(("stop", slot))
                self.workers.pop(slot, None)

    def close(self) -> None:
        self.closed.set()
        self.stop(self.slots)

    def lost_nodes(self, nodes: Sequence[str], wait_s: float) -> Sequence[str]:
        return [node for node in nodes if node in self.dead_nodes]


@dataclass
class FakeWorkerGroup:
    """Workers that do as their reservation's script says.

    Attributes:
        phases: that it went through.
        sharers: as given to `prepare`.
        built_for: ids of the nodes given to `build`.
    """

    reservation: FakeReservation
    slots: tuple[DeviceSlot, ...]
    point: Point
    pids: Sequence[int]
    fresh: bool
    phases: list[str] = field(default_factory=list)
    sharers: Mapping[str, int] = field(default_factory=dict)
    built_for: frozenset[str] = frozenset()
    streams: list[FakeStream] = field(default_factory=list)

    @property
    def members(self) -> Sequence[FakeMember]:
        return [
            FakeMember(slot.node, WorkerHost(slot.host or slot.node, pid, 0))
            for slot, pid in zip(self.slots, self.pids, strict=True)
        ]

    def enter(self, phase: str) -> None:
        """Run the script; a worker of a closed reservation has been killed."""
        self.phases.append(phase)
        self.reservation.script(phase, self)
        if self.reservation.closed.is_set():
            raise WorkerDied(f"A worker's process ended in phase {phase!r}.")

    def prepare(
        self,
        seed: int,
        timeout_s: float,
        sharers: Mapping[str, int],
        on_step: Callable[[str, str], object] | None = None,
    ) -> Sequence[Prepared]:
        self.sharers = dict(sharers)
        self.enter("prepare")
        if on_step is not None:
            on_step("loading the graph of 'alexnet'", "")
        return [
            prepared(
                self.point,
                slot,
                self.reservation.batch_s,
                OutputBits(self.reservation.outputs_sha256(rank, "start"), True),
            )
            for rank, slot in enumerate(self.slots)
        ]

    def build(
        self,
        seed: int,
        timeout_s: float,
        nodes: Iterable[str],
        on_step: Callable[[str, str], object] | None = None,
    ) -> None:
        self.built_for = frozenset(nodes)
        self.enter("build")

    def start_stream(self, longest_s, block_ns, arrivals=None) -> FakeStream:
        self.enter("measure")
        self.streams.append(FakeStream(self, longest_s, block_ns))
        return self.streams[-1]

    def layers(self, timeout_s: float) -> Sequence[Layer]:
        self.enter("layers")
        return (Layer("conv1", "Conv", 2_000_000), Layer("fc", "Gemm", 1_000_000))

    def release(self) -> tuple[str, ...]:
        self.phases.append("release")
        return ()


class FakeStream:
    """Streams of one batch after another, on a clock that `wait` moves."""

    start_ns = 77 * S

    def __init__(self, group: FakeWorkerGroup, longest_s: float, block_ns: int) -> None:
        self._group = group
        self._longest_s = longest_s
        self._block_ns = block_ns
        self._now_s = 0.0
        self._seen = [0] * len(group.slots)
        self._done_s = [[0.0] for _ in group.slots]

    def elapsed_s(self) -> float:
        return self._now_s

    def wait(self, seconds: float) -> bool:
        self._group.enter("stream")
        self._now_s += max(seconds, 0.001)
        end_at_s = self._group.reservation.end_at_s
        return self._now_s >= (self._longest_s if end_at_s is None else end_at_s)

    def snapshot(self, stall_s: float) -> Sequence[StreamSnapshot]:
        self._refuse_stalled(stall_s)
        measure, batch_size = self._group.point.measure, self._group.point.batch_size
        snapshots = []
        for rank, seen in enumerate(self._seen):
            done_ns = self._done_ns(rank)
            blocks = cut(done_ns, 0, self._block_ns, measure.block_min_batches, batch_size)
            edges, edge_ns = blocks.edges[seen:], blocks.edge_ns[seen:]
            temp_c = np.full(len(edges), np.nan)
            sums = self._sums(rank, blocks, seen) if measure.row_every_s else ()
            snapshots.append(StreamSnapshot(len(done_ns), edges, edge_ns, temp_c, blocks=sums))
            self._seen[rank] += len(edges)
        return snapshots

    def _sums(self, rank: int, blocks: Blocks, seen: int) -> tuple[SoakBlock, ...]:
        """The blocks of a soak whose last edge is new."""
        member = self._group.members[rank]
        readings = Readings(self._group.point.device, member.host.hostname, member.host.pid)
        sums = []
        for edge in range(max(seen, 1), len(blocks.edges)):
            begin, end = int(blocks.edge_ns[edge - 1]), int(blocks.edge_ns[edge])
            batches = int(blocks.edges[edge] - blocks.edges[edge - 1])
            sketch = QuantileSketch()
            sketch.add(np.full(batches, (end - begin) / 1e6 / batches))
            hardware = worker_columns(readings, begin, end, batches)
            sums.append(
                SoakBlock(
                    cell=begin // self._block_ns, begin_ns=begin, end_ns=end, batches=batches,
                    times={"latency": sketch}, hardware=hardware, readings=readings,
                )
            )  # fmt: skip
        return tuple(sums)

    def finish(self) -> tuple[Sequence[Measurement], Sequence[ClockDrift]]:
        self._group.enter("finish")
        measurements = []
        for rank, member in enumerate(self._group.members):
            done_ns = self._done_ns(rank)
            submit_ns = done_ns - int(self._group.reservation.batch_s * 1e9)
            batch_size = self._group.point.batch_size
            trace = StreamTrace(submit_ns, submit_ns + 1000, done_ns, None, 0, 0, batch_size)
            readings = Readings(self._group.point.device, member.host.hostname, member.host.pid)
            sha256 = self._group.reservation.outputs_sha256(rank, "end")
            measurements.append(Measurement(trace, readings, sha256))
        clock = ClockDrift(Clock(0, 1000, 0), Clock(0, 1000, int(self._now_s * 1e9)))
        return measurements, [clock] * len(measurements)

    def _refuse_stalled(self, stall_s: float) -> None:
        hang_at_s = self._group.reservation.hang_at_s
        if hang_at_s is not None and self._now_s - hang_at_s > stall_s:
            error = PhaseTimeout(f"No batch was completed for {stall_s:.0f} s.")
            raise concerning(error, *range(len(self._seen)))

    def _done_ns(self, rank: int) -> np.ndarray:
        """Completions so far, in nanoseconds since the common start."""
        reservation, done_s = self._group.reservation, self._done_s[rank]
        until_s = min(self._now_s, reservation.hang_at_s or self._now_s)
        while (now_s := done_s[-1]) < until_s:
            done_s.append(now_s + reservation.batch_s / reservation.speed(rank, now_s))
        return (np.array(done_s if now_s <= until_s else done_s[:-1]) * 1e9).astype(np.int64)


def prepared(
    point: Point, slot: DeviceSlot, batch_s: float, outputs: OutputBits = NO_BITS
) -> Prepared:
    """Result of preparing a worker of a simulated engine."""
    return Prepared(
        device=Device(point.device, "simulated", 0, None, str(slot.number)),
        engine=EngineInfo("1.0", build_s=0.0, load_s=0.1, simulated=True),
        model=Model.named(point.model, point.precision, None),
        batch_s=batch_s,
        first_infer_ms=batch_s * 1e3,
        comparison=OutputComparison(),
        harness_us=1.0,
        input_shape="",
        affinity="0",
        variables={},
        software={},
        outputs=outputs,
    )
