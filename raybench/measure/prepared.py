"""What a worker reports: where it runs, what it has prepared and what it has measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.measure.load_barrier import NO_START, LoadStart
from raybench.measure.output_bits import NO_BITS, OutputBits

if TYPE_CHECKING:
    from raybench.engines.base import EngineInfo
    from raybench.machine.devices import Device
    from raybench.measure.stream import StreamTrace
    from raybench.measure.telemetry_columns import Readings
    from raybench.models.comparison import OutputComparison
    from raybench.models.model import Model


@dataclass(frozen=True)
class WorkerHost:
    """Host, process id and niceness of a worker.

    Attributes:
        hostname: of its node.
        pid: of its process.
        nice: niceness of the process; above 0 it yields to others.
    """

    hostname: str
    pid: int
    nice: int


@dataclass(frozen=True)
class Prepared:
    """Result of `Worker.prepare`.

    Attributes:
        device: that the worker was given.
        engine: facts about the loaded engine.
        model: that it runs.
        batch_s: median time of a batch in a short probe; seconds.
        first_infer_ms: time of the very first batch.
        comparison: of the first outputs with those of fp32.
        harness_us: time that the measuring loop itself takes for a batch.
        input_shape: shapes of all inputs, e.g. "data:8x3x227x227".
        input_notes: notes on real inputs, on a file that is fixed to another batch, and on a CPU
            whose int8 kernels saturate.
        affinity: CPUs that the process is pinned to, comma-separated.
        variables: environment variables of the process that influence the measurement.
        software: versions of libraries and driver on this node, by column of `environment`.
        mps: whether CUDA's Multi-Process Service is on; None on a core, and if unknown.
        outputs: of the first batch, bit for bit.
        power_limit_w: that the device keeps to, as it was read back; None if unknown.
        ready_s: from the begin of loading to the end of the very first batch; seconds.
        begun: when loading began, and with what page cache.
    """

    device: Device
    engine: EngineInfo
    model: Model
    batch_s: float
    first_infer_ms: float
    comparison: OutputComparison
    harness_us: float
    input_shape: str
    affinity: str
    variables: dict[str, str]
    software: dict[str, str | None]
    input_notes: tuple[str, ...] = ()
    mps: bool | None = None
    outputs: OutputBits = NO_BITS
    power_limit_w: float | None = None
    ready_s: float | None = None
    begun: LoadStart = NO_START

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the row."""
        made = (*self.engine.notes, *self.model.conversion.notes, *self.model.count_notes)
        return (*self.model.source_notes, *made, *self.comparison.notes, *self.input_notes)


@dataclass(frozen=True)
class Measurement:
    """Raw result of one worker: the times of its batches, telemetry, and the first batch's outputs."""

    trace: StreamTrace
    readings: Readings
    outputs_sha256: str | None = None
