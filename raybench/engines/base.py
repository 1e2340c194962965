"""Engine: one model, loaded on one device, that can be kept fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from typing_extensions import Self

    from raybench.machine.devices import Device
    from raybench.models.batches import BatchPool
    from raybench.models.model import Model

DeviceSpans = tuple[int, int, int]
"""Device time of one batch in ns by the device's own clock: copy in, compute, copy out."""


@dataclass(frozen=True)
class Load:
    """All that an engine is given to load one model for one point.

    Attributes:
        model: the graph in the precision and dialect of the point.
        batches: the inputs; batch i of the stream is `batches.batch(i % batches.count)`. An engine that
            prepares every batch ahead may leave out some of the last.
        device: the one device that this process owns.
        inflight: most batches submitted and not yet collected.
        transfers: whether inputs and outputs cross the bus inside the timed stream.
        options: an instance of the engine's `Settings`.
        memory_limit_bytes: make the device look no larger than this; None for all of it.
        cache_dir: where this node keeps what can be used again (plans, timing caches).
        rank: of the worker among those of the point.
    """

    model: Model
    batches: BatchPool
    device: Device
    inflight: int
    transfers: bool
    options: Any
    memory_limit_bytes: int | None
    cache_dir: Path
    rank: int = 0


@dataclass(frozen=True)
class EngineInfo:
    """What an engine tells of itself once it is loaded; None where it cannot know.

    Attributes:
        version: of the library behind it.
        build_s: compiling or building for the device; 0.0 is never used for "cached".
        build_cache_hit: whether the build came from a cache; None without a cache.
        load_s: from built to ready.
        engine_bytes: size of the built plan.
        engine_sha256: of the built plan.
        device_memory_bytes: what it holds on the device.
        device_clock: whether `collect` returns device spans.
        simulated: its timings come from a model, not from hardware.
        threads: CPU threads that compute.
        notes: flags for the row, e.g. "graph_capture_failed".
    """

    version: str
    build_s: float
    load_s: float
    build_cache_hit: bool | None = None
    engine_bytes: int | None = None
    engine_sha256: str | None = None
    device_memory_bytes: int | None = None
    device_clock: bool = False
    simulated: bool = False
    threads: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One layer of the built model, timed by the library in a run of its own.

    Attributes:
        name: as the library calls it; a fused layer names several nodes of the graph.
        kind: what it computes with, in the library's words.
        time_ns: median over the batches of that run.
        info_json: what else the library tells of it; None for nothing.
    """

    name: str
    kind: str | None
    time_ns: int
    info_json: str | None = None


class Engine(Protocol):
    """The seam. The harness owns clock, loop, depth and order; the engine owns memory and streams.

    Life: `load`, then `submit` and `collect` in strictly rising sequence numbers with never more
    than `inflight` between them, then `close`. A synchronous runtime works in `submit`; an
    asynchronous one enqueues copy, compute, copy there and waits in `collect`. Neither is told
    the time nor keeps it, but for the device's own spans.

    Raises: PointError and its children, from any method. A worker whose engine has raised is not
    used again.
    """

    name: ClassVar[str]
    extra: ClassVar[str | None]
    """The extra of raybench that installs the library; None when the core has it."""
    device_kinds: ClassVar[tuple[str, ...]]
    """Kinds it runs on, best first."""
    int8_dialect: ClassVar[str]
    bf16_dialect: ClassVar[str | None]
    """"native" for an engine that runs the fp32 graph in bf16 by an option; None otherwise."""
    rewrites_lrn: ClassVar[bool]
    """True for an engine whose own LRN is slow: it gets LRN as pooling and arithmetic."""
    reads_graph: ClassVar[bool]
    """False for an engine that runs without the model's file: none is built for it."""
    Settings: ClassVar[type]
    """A frozen dataclass: this engine's options, typed, with defaults."""
    info: EngineInfo

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot run on this machine and what to install, or None. Loads no device."""
        ...

    @classmethod
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Why this precision or mode cannot be had on this device, or None."""
        ...

    @classmethod
    def load(cls, load: Load) -> Self:
        """Build or compile, allocate everything, bind the inputs. Not timed, but recorded."""
        ...

    def submit(self, sequence: int) -> None:
        """Start batch number `sequence` of the stream."""
        ...

    def collect(self, sequence: int) -> DeviceSpans | None:
        """Block until batch `sequence` is done, outputs in host memory unless transfers are off."""
        ...

    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the outputs of the batch collected last, shape (batch_size, ...). Untimed."""
        ...

    def layers(self, batches: int) -> tuple[Layer, ...]:
        """The layers in order of execution, each timed over so many batches.

        A run of its own after the stream: profiling slows the model, so nothing else is taken from
        it. Empty where the library cannot tell.
        """
        ...

    def close(self) -> None:
        """Free everything. Twice does no harm."""
        ...


@runtime_checkable
class BuildsAhead(Protocol):
    """An engine that keeps what it builds, for itself and for other machines of the same kind."""

    @classmethod
    def plan_batch(cls, options: Any, batch_size: int) -> int:
        """The batch that a plan is for: two batches for which it is the same share a plan."""
        ...

    @classmethod
    def prebuild(cls, load: Load) -> tuple[str, ...]:
        """Put what `load` would build into the cache, without taking more of the device than that.

        Returns:
            The files that hold it, relative to `load.cache_dir`, in the order in which they are to
            be written on another machine. An engine trusts none of them before it has checked that
            they are what it would have built there.
        """
        ...
