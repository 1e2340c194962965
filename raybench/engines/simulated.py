"""An engine whose times come from a formula, so that the whole path runs on any machine.

A batch of b items takes `overhead_ms + b * item_us / 1000` on a device that works through its
queue one batch after another. Instances take turns on it: each has its share of the memory, and its
batches take so many times as long. Profiles p40 and m40 are fitted to the series of the 2017 study.
Its rows are marked as simulated.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from typing_extensions import override

from raybench.engines.base import (
    NEWER,
    EngineBase,
    EngineInfo,
    EngineTraits,
    KeepsState,
    LimitsPower,
    ReadsHostInputs,
    TakesPartBatches,
)
from raybench.errors import OutOfMemory, Unsupported

if TYPE_CHECKING:
    from typing_extensions import Self

    from raybench.engines.base import Load


_BELOW_1 = ("warmup_drop", "throttle_drop", "slow_drop", "noise_phi")
"""Options that leave nothing of a speed, or of its noise, at 1."""


@dataclass(frozen=True)
class SimulatedSettings:
    """Options of the engine `simulated`.

    Attributes:
        profile: "custom" uses the three numbers below; "p40", "m40" use the study's series.
        overhead_ms: time of a batch that does not grow with its size.
        item_us: time of one item.
        item_mib: memory of one item.
        memory_gib: memory of the device.
        noise: relative standard deviation of a batch's time.
        noise_phi: autocorrelation of that noise from one batch to the next, 0 to below 1.
        trial_noise: relative standard deviation between processes.
        warmup_drop: share by which the device is slower when cold, e.g. 0.15.
        warmup_tau_s: time constant of the warm-up.
        throttle_at_s: seconds after loading at which the device slows down; 0 never.
        throttle_drop: share by which it slows down then.
        slow_worker: the worker of this rank is slower by `slow_drop`; -1 none.
        slow_drop: share.
        hang_at_s: seconds after loading at which it never answers again; 0 never.
        load_s: time that loading takes.
        seed: of the noise.
        service: what a batch takes: "deterministic" the same time each, "exponential" that on average,
            "batch" in open loop only the time of the items that it holds.
        slow_device: this device is slower by `slow_drop`, alone and with others: its number among all
            of the run, in the order of hosts and of devices on them; -1 none.
        slow_host: every device of this host is slower by `slow_drop`, hosts in that order; -1 none.
        device_spread: relative standard deviation between devices; each keeps its own speed.
        flip_bit_s: seconds after loading from which the slow device computes wrong outputs; negative
            from the start. Unless it is 0, every device gives outputs.
        idle_w: power of a device that computes nothing; with a power limit P the speed is
            ((P - idle_w) / (knee_w - idle_w)) ** power_exponent, and 1 from `knee_w` on.
        knee_w: power that the device draws at full speed.
        power_exponent: see `idle_w`.
        lowest_w: least power limit that can be set.
        highest_w: most power limit that can be set.
        build_spread: relative standard deviation between builds; each keeps its own speed.

    Raises:
        ValueError: a share or autocorrelation is not from 0 to below 1: nothing would take forever;
            or the knee is not above the idle power.
    """

    profile: Literal["custom", "p40", "m40"] = "custom"
    overhead_ms: float = 1.0
    item_us: float = 100.0
    item_mib: float = 1.0
    memory_gib: float = 24.0
    noise: float = 0.0
    noise_phi: float = 0.0
    trial_noise: float = 0.0
    warmup_drop: float = 0.0
    warmup_tau_s: float = 2.0
    throttle_at_s: float = 0.0
    throttle_drop: float = 0.05
    slow_worker: int = -1
    slow_drop: float = 0.2
    hang_at_s: float = 0.0
    load_s: float = 0.0
    seed: int = 0
    service: Literal["deterministic", "exponential", "batch"] = field(
        default="deterministic", metadata=NEWER
    )
    slow_device: int = field(default=-1, metadata=NEWER)
    slow_host: int = field(default=-1, metadata=NEWER)
    device_spread: float = field(default=0.0, metadata=NEWER)
    flip_bit_s: float = field(default=0.0, metadata=NEWER)
    idle_w: float = field(default=150.0, metadata=NEWER)
    knee_w: float = field(default=550.0, metadata=NEWER)
    power_exponent: float = field(default=0.6, metadata=NEWER)
    lowest_w: float = field(default=200.0, metadata=NEWER)
    highest_w: float = field(default=700.0, metadata=NEWER)
    build_spread: float = field(default=0.0, metadata=NEWER)

    def __post_init__(self) -> None:
        """Refuse what a device cannot be slowed down by."""
        for name in _BELOW_1:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"engine.{name} takes a share from 0 to below 1, not {getattr(self, name)!r}"
                )
        if not 0 <= self.idle_w < self.knee_w:
            raise ValueError(
                f"engine.knee_w={self.knee_w:g} is not above engine.idle_w={self.idle_w:g}"
            )


@dataclass(frozen=True)
class TimingModel:
    """Time and memory of a batch: `overhead_ms + items * item_us / 1000` and `items * item_mib`."""

    overhead_ms: float
    item_us: float
    item_mib: float = 1.0


P40_INT8 = {"alexnet": TimingModel(1.170, 53.93, 2.0), "googlenet": TimingModel(1.520, 143.7, 8.0)}
P40_FP32 = {"alexnet": TimingModel(1.170, 183.2, 4.0), "googlenet": TimingModel(1.520, 439.6, 16.0)}
M40_FP32 = {"alexnet": TimingModel(1.170, 303.4, 4.0), "googlenet": TimingModel(1.520, 679.7, 16.0)}
PROFILES: dict[str, dict[str, dict[str, TimingModel]]] = {
    "p40": {"int8": P40_INT8, "fp32": P40_FP32},
    "m40": {"fp32": M40_FP32},
}
"""Timing models of the 2017 study. int8: least squares on relative error over Figure 6, within 4.1 %
of each value. fp32: only the rate at batch 128 is published; the overhead of int8 is kept and the
rest is the time per item. Memory per item is an assumption: GoogLeNet ends above batch 2048 on
24 GB and AlexNet does not, as in Figure 6."""
MEMORY_GIB = {"p40": 24.0, "m40": 12.0}
SLACK_NS = 2_000_000
"""A host that submits this late still counts as on time, as if the device had not been idle: the
simulation must not depend on how precisely this machine sleeps."""


_BUILDS = 1
"""Keeps the draws for builds apart from those for devices."""
SPIN_NS = 200_000
"""In open loop, the time before the end of a batch that is spent spinning: a sleep that ends late would
make the device slower than its formula."""


class SimulatedEngine(EngineBase, TakesPartBatches, LimitsPower, KeepsState, ReadsHostInputs):
    """A device that exists only as a formula; its clock is the host's."""

    traits = EngineTraits(
        name="simulated",
        settings=SimulatedSettings,
        device_kinds=("gpu", "cpu"),
        bf16_dialect="native",
        reads_graph=False,
        builds_differ=True,
    )

    @classmethod
    @override
    def power_limits_w(cls, options: SimulatedSettings) -> tuple[float, float]:
        """Return the limits of its options; one without room above the idle power has none."""
        return max(options.lowest_w, options.idle_w + 1.0), options.highest_w

    @classmethod
    @override
    def load(cls, load: Load) -> Self:
        """Check memory and start the clock of the device."""
        return cls(load)

    def __init__(self, load: Load) -> None:
        options: SimulatedSettings = load.options
        model, memory_gib = _timing_model(options, load)
        batch_size = load.batches.batch_size
        memory = int(memory_gib * 2**30) // load.instances
        memory = min(memory, load.memory_limit_bytes or 2**63)
        needed = int(batch_size * model.item_mib * 2**20)
        if needed > memory:
            raise OutOfMemory("load", needed, f"the simulated device has {memory / 2**20:.0f} MiB")
        time.sleep(options.load_s)
        self._options = options
        entropy = int.from_bytes(np.random.SeedSequence().generate_state(1).tobytes(), "little")
        trial = np.random.default_rng(entropy).standard_normal() * options.trial_noise
        self._mean_ns = (model.overhead_ms * 1e6 + batch_size * model.item_us * 1e3) * math.exp(
            trial
        )
        self._mean_ns *= load.instances / (_device_speed(options, load) * _speed_at(options, load))
        self._noise = np.random.default_rng([options.seed, load.rank, entropy % 2**31])
        self._deviation = 0.0
        self._born_ns = time.perf_counter_ns()
        self._free_ns = self._born_ns
        self._done_ns: dict[int, int] = {}
        self._spin_ns = 0
        self._fixed_items = model.overhead_ms * 1e3 / model.item_us if model.item_us else math.inf
        self._batch_size = batch_size
        self._batches = load.batches
        self._flips = options.slow_device == load.place.device
        by_items = options.service == "batch"
        self.sizes = range(1, batch_size + 1) if by_items else (batch_size,)
        self.info = EngineInfo(
            version="1",
            build_s=0.0,
            load_s=options.load_s,
            device_memory_bytes=needed,
            simulated=True,
            power_limit_w=load.power_limit_w,
            power_w=load.power_limit_w and min(load.power_limit_w, options.knee_w),
            engine_sha256=_plan_sha256(options, load) if options.build_spread else None,
        )

    def _duration_ns(self, now_ns: int) -> int:
        options = self._options
        age_s = (now_ns - self._born_ns) / 1e9
        if options.hang_at_s and age_s >= options.hang_at_s:
            return 10**18
        speed = 1.0
        if options.warmup_drop:
            speed -= options.warmup_drop * math.exp(-age_s / options.warmup_tau_s)
        if options.throttle_at_s and age_s >= options.throttle_at_s:
            speed *= 1 - options.throttle_drop
        if options.noise:
            phi = options.noise_phi
            fresh = self._noise.standard_normal() * math.sqrt(1 - phi * phi)
            self._deviation = phi * self._deviation + fresh
            speed *= math.exp(-options.noise * self._deviation)
        if options.service == "exponential":
            speed /= max(self._noise.standard_exponential(), 1e-9)
        return int(self._mean_ns / speed)

    @override
    def submit(self, sequence: int) -> None:
        """Queue the batch: it starts when the one before it is done."""
        now = time.perf_counter_ns()
        start = self._free_ns if now - self._free_ns < SLACK_NS else now
        self._free_ns = start + self._duration_ns(start)
        self._done_ns[sequence] = self._free_ns

    @override
    def submit_part(self, sequence: int, items: int) -> None:
        """Queue the batch: it starts now, or when the one before it is done."""
        self._spin_ns = SPIN_NS
        start = max(self._free_ns, time.perf_counter_ns())
        duration_ns = self._duration_ns(start)
        if self._options.service == "batch" and math.isfinite(self._fixed_items):
            fixed = self._fixed_items
            duration_ns = int(duration_ns * (fixed + items) / (fixed + self._batch_size))
        self._free_ns = start + duration_ns
        self._done_ns[sequence] = self._free_ns

    @override
    def collect(self, sequence: int) -> None:
        """Sleep until the formula says that the batch is done."""
        done_ns = self._done_ns.pop(sequence)
        left_ns = done_ns - self._spin_ns - time.perf_counter_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        if self._spin_ns:
            while time.perf_counter_ns() < done_ns:
                pass

    @override
    def host_inputs(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pool's own memory, which nothing is computed of."""
        return self._batches.batch(index)

    @override
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return no outputs, as nothing was computed, unless a bit of them is to flip."""
        flip_s = self._options.flip_bit_s
        if not flip_s:
            return {}
        bits = np.arange(self._batch_size, dtype=np.int32)
        age_s = (time.perf_counter_ns() - self._born_ns) / 1e9
        bits[0] ^= self._flips and age_s >= flip_s
        return {"simulated": bits}


def _device_speed(options: SimulatedSettings, load: Load) -> float:
    """Return the speed of the worker's device: 1 for one that is as the others are."""
    place, speed = load.place, 1.0
    slow_place = options.slow_device == place.device or options.slow_host == place.host
    if slow_place or options.slow_worker == load.rank:
        speed = 1 - options.slow_drop
    if options.device_spread:
        own = np.random.default_rng([options.seed, place.device]).standard_normal()
        speed *= math.exp(options.device_spread * own)
    if options.build_spread:
        own = np.random.default_rng([options.seed, load.build, _BUILDS]).standard_normal()
        speed *= math.exp(options.build_spread * own)
    return speed


def _speed_at(options: SimulatedSettings, load: Load) -> float:
    """Return the speed of the worker's device at its power limit: 1 without one, and from the knee on."""
    if load.power_limit_w is None or load.power_limit_w >= options.knee_w:
        return 1.0
    share = (load.power_limit_w - options.idle_w) / (options.knee_w - options.idle_w)
    return float(share**options.power_exponent)


def _plan_sha256(options: SimulatedSettings, load: Load) -> str:
    """Return what stands for the hash of a plan: another one for each build."""
    facts = f"{load.model.name} {load.model.precision} {load.batches.batch_size}"
    return hashlib.sha256(f"{facts} {options.seed} {load.build}".encode()).hexdigest()


def _timing_model(options: SimulatedSettings, load: Load) -> tuple[TimingModel, float]:
    """Return the timing model and memory of the profile for this model and precision."""
    if options.profile == "custom":
        return TimingModel(
            options.overhead_ms, options.item_us, options.item_mib
        ), options.memory_gib
    series = PROFILES[options.profile].get(load.model.precision, {})
    if load.model.name not in series:
        raise Unsupported(
            f"Profile {options.profile} has no figures for {load.model.name} in "
            f"{load.model.precision}. Use engine.profile=custom."
        )
    return series[load.model.name], MEMORY_GIB[options.profile]
