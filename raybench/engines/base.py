"""The interface of engines: one model, loaded on one device, that can be kept fed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from typing_extensions import Self

    from raybench.machine.devices import Device
    from raybench.models.items.batches import BatchPool
    from raybench.models.model import Model

DeviceSpans = tuple[int, int, int]
"""Device time of one batch in ns by the device's own clock: copy in, compute, copy out."""


NEWER: Mapping[str, Any] = MappingProxyType({"newer": True})
"""Metadata of an engine's option that came after the first rows: at its default it is in no id."""


@dataclass(frozen=True)
class NoOptions:
    """The options of an engine that has none."""


@dataclass(frozen=True)
class EngineTraits:
    """Fixed properties of an engine, available without loading its library.

    Attributes:
        name: as in `engine=NAME`; empty for the name of its entry point.
        settings: frozen dataclass of the engine's options, with defaults.
        device_kinds: kinds of device it runs on, best first.
        extra: extra of raybench that installs the library; None if the core has it.
        int8_dialect: kind of Q/DQ graph it wants: "s8s8", or "u8s8", which becomes "u8s7" on a CPU
            whose int8 kernels saturate.
        bf16_dialect: "native" for an engine that runs the fp32 graph in bf16 by an option.
        rewrites_lrn: True for an engine whose own LRN is slow: its graph has pooling and
            arithmetic in place of it.
        reads_graph: False for an engine that runs without the model's file: none is built.
        builds_differ: whether a plan that is built again may be another one, as where the builder chooses
            kernels by timing them.
    """

    name: str = ""
    settings: type = NoOptions
    device_kinds: tuple[str, ...] = ("cpu",)
    extra: str | None = None
    int8_dialect: str = "s8s8"
    bf16_dialect: str | None = None
    rewrites_lrn: bool = False
    reads_graph: bool = True
    builds_differ: bool = False


def _say_nothing(_step: str, _detail: str) -> None:
    """Take a step that nobody wants to know."""


@dataclass(frozen=True)
class Place:
    """Where a worker's device stands among all that the run has reserved, each counted from 0.

    Attributes:
        device: among the devices of its kind, in the order of hosts and of numbers on them.
        host: of its node, in the same order.
    """

    device: int = 0
    host: int = 0


FIRST = Place()


@dataclass(frozen=True)
class Load:
    """Everything an engine needs to load one model for one point.

    Attributes:
        model: the graph in the precision and dialect of the point.
        batches: the inputs; batch i of the stream is `batches.batch(i % batches.count)`. An engine
            that keeps batches on the device may leave out some of the last.
        device: the one device that this process owns.
        inflight: most batches submitted and not yet collected.
        transfers: whether inputs and outputs cross the bus inside the timed stream.
        options: an instance of the engine's settings.
        memory_limit_bytes: make the device appear no larger than this; None for all of it.
        cache_dir: where this node keeps what can be reused (plans, timing caches).
        rank: of the worker among those of the point.
        instances: engines that share the device, each in a process of its own.
        part_batches: whether batches that are not full will come, as in open loop: `TakesPartBatches`.
        place: of the device among all of the run.
        power_limit_w: that a device of the engine's own keeps to (`LimitsPower`); None for none.
        build: which of several separately built plans, from 0; only engines whose builds differ see another.
        on_step: to call with what `load` or `prebuild` is doing and how far it is, e.g. "building the
            plan" and "such a plan took 61 s"; it returns at once.
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
    instances: int = 1
    part_batches: bool = False
    place: Place = FIRST
    power_limit_w: float | None = None
    build: int = 0
    on_step: Callable[[str, str], object] = _say_nothing

    @property
    def takes_parts(self) -> bool:
        """Whether parts will come, and the graph and its inputs allow any batch up to a full one."""
        fixed = self.model.file_batch is not None and self.model.file_batch.why is not None
        return self.part_batches and self.batches.divisible and not fixed

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Sizes for an engine that prepares each: powers of two, and a full batch at the end.

        A full batch alone where parts are padded.
        """
        full = self.batches.batch_size
        below = range((full - 1).bit_length()) if self.takes_parts else ()
        return (*(2**power for power in below), full)


@dataclass(frozen=True)
class EngineInfo:
    """What an engine reports once it is loaded; None for what it cannot determine.

    Attributes:
        version: of the library behind it; None for that of the package that offers the engine.
        build_s: compiling or building for the device; 0.0 is never used for "cached".
        load_s: from built to ready.
        build_cache_hit: whether the build came from a cache; None without a cache.
        engine_bytes: size of the built plan.
        engine_sha256: of the built plan.
        device_memory_bytes: memory it holds on the device.
        device_clock: whether `collect` returns device spans.
        simulated: whether its times come from a model instead of hardware.
        threads: CPU threads that compute.
        power_limit_w: that a device of the engine's own keeps to (`LimitsPower`).
        power_w: that such a device draws at work.
        notes: what else is to be known of the row, a sentence each.
    """

    version: str | None = None
    build_s: float | None = None
    load_s: float | None = None
    build_cache_hit: bool | None = None
    engine_bytes: int | None = None
    engine_sha256: str | None = None
    device_memory_bytes: int | None = None
    device_clock: bool = False
    simulated: bool = False
    threads: int | None = None
    power_limit_w: float | None = None
    power_w: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One layer of the built model, timed by the library in a run of its own.

    Attributes:
        name: the library's name; a fused layer names several nodes of the graph.
        kind: the library's name of the operation.
        time_ns: median over the batches of that run.
        info_json: further facts the library reports; None if there are none.
    """

    name: str
    kind: str | None
    time_ns: int
    info_json: str | None = None


class Engine(Protocol):
    """A loaded model. The harness owns clock, loop, depth and order; the engine owns memory.

    Life cycle: `load`, then `submit` and `collect` in strictly rising sequence numbers with never
    more than `inflight` between them, then `close`. A synchronous runtime works in `submit`; an
    asynchronous one enqueues copy, compute, copy there and waits in `collect`. Neither measures
    time, except the device's own spans.

    Every method may raise PointError or a subclass. A worker whose engine has raised is not used
    again.
    """

    info: EngineInfo

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
        """Return copies of the last collected batch's outputs, shape (batch_size, ...). Untimed."""
        ...

    def close(self) -> None:
        """Free everything. Closing twice is harmless."""
        ...


class EngineBase(ABC):
    """Base class of engines: an `Engine` with its traits and with defaults for what may be left out.

    A class with `load`, `submit`, `collect`, `outputs` and, where it holds anything, `close` is an
    engine for CPU cores without options.

    Attributes:
        traits: fixed properties of the class.
        info: report of the loaded engine.
    """

    traits: ClassVar[EngineTraits] = EngineTraits()
    info: EngineInfo = EngineInfo()

    @classmethod
    def unavailable(cls) -> str | None:
        """Return why it cannot run on this machine and what to install. Loads no device."""
        return None

    @classmethod
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Return why this precision or mode is not possible on this device."""
        return None

    @classmethod
    @abstractmethod
    def load(cls, load: Load) -> Self:
        """See `Engine.load`."""

    @abstractmethod
    def submit(self, sequence: int) -> None:
        """See `Engine.submit`."""

    @abstractmethod
    def collect(self, sequence: int) -> DeviceSpans | None:
        """See `Engine.collect`."""

    @abstractmethod
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """See `Engine.outputs`."""

    def close(self) -> None:  # noqa: B027 - an engine that holds nothing need not override it
        """See `Engine.close`; by default there is nothing to free."""


class ReportsLayers(ABC):
    """An optional capability, declared by inheriting it: the engine can time single layers."""

    @abstractmethod
    def layers(self, batches: int) -> tuple[Layer, ...]:
        """Return the layers in order of execution, each timed over this many batches.

        This is a separate run after the stream: profiling slows the model, so nothing else is
        taken from it. Empty if the library reports none.
        """


class TakesPartBatches(ABC):
    """An optional capability, declared by inheriting it: the engine is given how full a batch is.

    Only an open loop has batches that are not full, and `Load.part_batches` says so: no other point
    pays for more sizes than one. Other engines compute all of the batch.

    Attributes:
        sizes: numbers of items that a batch can be computed at, rising, the last a full batch; a part
            is padded to the next of them. Empty if unknown.
    """

    sizes: Sequence[int] = ()

    @abstractmethod
    def submit_part(self, sequence: int, items: int) -> None:
        """Start batch number `sequence` of the stream, of which the first `items` count.

        `outputs` then returns at least those items, and no more than the size that was computed.
        """


class KeepsState:
    """An optional capability, declared by inheriting it: a model's state stays on the device.

    `Model.state` names inputs that outputs renew. Batch i reads what batch i - 1 left, however many are
    submitted, and batch 0 what `InitialState.of` holds. No batch of the stream copies the state, or an
    output in `Model.kept_outputs`, to the host or back; `outputs` returns all of them. Sequence numbers
    rise by one. Other engines are given no model with state.
    """

    @classmethod
    def kept_itemsize(cls, precision: str, dtype: np.dtype[Any]) -> int:
        """Return the bytes of an element of the state as the device keeps it.

        Args:
            precision: of the point.
            dtype: of the input in the graph.
        """
        return dtype.itemsize

    def restart(self) -> None:
        """Put the first state back, so that batch 0 comes next. Nothing is in flight. Untimed.

        A loaded engine has it already. Without state there is nothing to do.
        """


class ReadsHostInputs(ABC):
    """An optional capability, declared by inheriting it: inputs may be written while batches are streamed."""

    @abstractmethod
    def host_inputs(self, index: int) -> Mapping[str, np.ndarray[Any, Any]]:
        """Return the host memory that the batches of the stream with this place in the pool are read from.

        Whatever it holds when such a batch is submitted is what the batch computes, as long as it is
        left alone until the batch has been collected.

        Args:
            index: place in the pool, from 0.

        Raises:
            Unsupported: the engine reads its inputs once only on this device.
        """


class LimitsPower(ABC):
    """An optional capability, declared by inheriting it: its device has a power limit of its own.

    No driver sets it, as for a simulated device: `load` is given `Load.power_limit_w`, and `info` says
    which limit the device keeps to.
    """

    @classmethod
    @abstractmethod
    def power_limits_w(cls, options: Any) -> tuple[float, float]:
        """Return the lowest and the highest limit that a device with these options can have."""


class BuildsAhead(ABC):
    """An optional capability, declared by inheriting it: what is built is kept in the node's cache.

    What one machine has built is then sent to the others of its kind.

    Attributes:
        builds_anywhere: whether `prebuild` uses no device, so that `raybench build` can run on a node
            without one; `load.device` then names no device there.
    """

    builds_anywhere: ClassVar[bool] = False

    @classmethod
    def builder_missing(cls) -> str | None:
        """Return why `prebuild` cannot run in this process's environment, whatever its devices."""
        return None

    @classmethod
    @abstractmethod
    def plan_batch(cls, options: Any, batch_size: int) -> int:
        """Return the batch that a plan is for; batch sizes with equal results share a plan."""

    @classmethod
    @abstractmethod
    def prebuild(cls, load: Load) -> tuple[str, ...]:
        """Put what `load` would build into the cache, without taking more of the device than that.

        Returns:
            The files that hold it, relative to `load.cache_dir`, in the order in which they are to
            be written on another machine. An engine uses none of them before it has checked that
            they are what it would have built there.
        """
