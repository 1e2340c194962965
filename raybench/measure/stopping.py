"""Rules: when a point is warm, when it has been measured enough, and what may be said of it.

Functions of block rates and settings; the driver calls them at every look and acts on what they
say. A rule reads only the blocks that it names, so a decision can be repeated from stored blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from raybench.stats import intervals, trends

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from raybench.experiment import MeasureSettings
    from raybench.stats.intervals import Floats, Interval
    from raybench.stats.trends import Drift, LevelShift

STEP_LEAST = 0.01
STEP_Z = 3.5
DRIFT_LEAST = 0.005
DRIFT_Z = 3.0
"""A shift or trend is flagged when it is both large (share of the mean) and clear (z)."""
SLOWEST_SCALE = 4.0
"""A slow point's blocks and limits grow by no more than this."""
SETTLED_C_PER_10_S = 1.0
THROTTLED_FRAC = 0.01
SENSOR_C = 1.0
"""Step of a GPU's sensor: less than that between two windows is no evidence of warming."""
CLOCK_LOW = 0.75
"""Share of the highest clock below which a device counts as slow (nvbench's threshold)."""
CLOCK_VARIED = 0.02
"""Chosen here: a board at its power limit dithers between neighbouring clocks, which are 1 % apart;
twice that as standard deviation is more than dither."""
GAP_S = 3.0
ENERGY_CHECK = 0.05
"""Longest time without readings, and tolerance between counter and sampled power, of InferenceX."""
HARNESS_COST = 0.01
FOREIGN_LOAD = 0.05
STEAL = 0.01
"""Chosen here: of the worker's own CPUs. The raylet and its agents take 1 to 3 % of a core on a
machine without a core to spare, so less than 5 % is no other user."""
NODE_LOAD = 0.1
"""Chosen here: of all CPUs of a node. The driver, the raylet and its agents stay below 5 % of a node
with two CPUs; others' work shares caches, memory and boost clocks with the workers."""
CLOCK_SKEW = 5e-4
"""The fastest that time synchronisation may turn a clock (adjtimex(2): 500 ppm): beyond it rates
that were taken by that clock are wrong by a tenth of the target of preset standard, and rising."""
HOST_BOUND_FRAC = 0.05
ENQUEUE_BOUND = 0.8
"""Median time to submit a batch over the median time to compute it; the threshold of trtexec."""
COMPUTE_VARIED = 0.025
"""Standard deviation of the compute time over its mean; likewise."""
IMBALANCE = 0.05
"""Chosen here: workers of one point that differ by more are not the same kind of device or load."""
FIDELITY_LEAST_DB = 10.0
"""Chosen here: error of a tenth of the signal's power: no precision that works is as far off."""


# --- limits of a point ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """The settings of one point, in blocks.

    Attributes:
        settings: as configured.
        scale: how much longer blocks and time limits are than configured; 1 to 4.
        block_s: spacing of the grid on which workers cut blocks.
        span_s: length that a block will really have; more than `block_s` when the batches of a
            block do not fit into it.
        warmup_min: fewest blocks of warm-up.
        warmup_max: most blocks of warm-up.
        measure_min: blocks at the first look.
        measure_max: blocks at the last look.
        look: blocks between looks.
    """

    settings: MeasureSettings
    scale: float
    block_s: float
    span_s: float
    warmup_min: int
    warmup_max: int
    measure_min: int
    measure_max: int
    look: int

    def target(self, blocks: int) -> float:
        """Relative half-width that a look at so many blocks must reach to count towards a stop.

        The configured target at `measure_max`, narrower in proportion to sqrt(n) before. Stopping
        as soon as an estimated width is small stops when it is underestimated: held to the same
        width throughout, intervals of stopped rows cover less than they say (phi 0.6, block sd
        1 %: 93.0 % of nominal 95; with this 94.1 %, simulated). Quiet points do not notice.
        """
        return self.settings.target * math.sqrt(min(1.0, blocks / self.measure_max))

    def next_look(self, blocks: int) -> int | None:
        """The first look after so many blocks of window; None when there is none left."""
        if blocks < self.measure_min:
            return self.measure_min
        if blocks >= self.measure_max:
            return None
        past = (blocks - self.measure_min) // self.look + 1
        return min(self.measure_min + past * self.look, self.measure_max)


def limits(settings: MeasureSettings, slowest_batch_s: float = 0.0) -> Limits:
    """The limits of a point whose slowest worker takes `slowest_batch_s` for a batch.

    A block must hold `block_min_batches`; where it cannot, block and time limits grow together,
    up to 4 times. Beyond that blocks still grow, so there are fewer of them in the time allowed.

    Args:
        settings: as configured.
        slowest_batch_s: median batch of the slowest worker while warming up; fixed from then on.
    """
    needed_s = settings.block_min_batches * slowest_batch_s
    scale = min(max(1.0, needed_s / settings.block_s), SLOWEST_SCALE)
    block_s = settings.block_s * scale
    span_s = max(block_s, needed_s)
    batches_s = settings.warmup_min_batches * slowest_batch_s
    minimum = max(1, _at_least(settings.min_s * scale / span_s))
    return Limits(
        settings=settings,
        scale=scale,
        block_s=block_s,
        span_s=span_s,
        warmup_min=_at_least(max(settings.warmup_min_s * scale, batches_s) / span_s),
        warmup_max=_at_most(settings.warmup_max_s * scale / span_s),
        measure_min=minimum,
        measure_max=max(minimum, _at_most(settings.max_s * scale / span_s)),
        look=max(1, round(settings.look_s * scale / span_s)),
    )


def _at_least(blocks: float) -> int:
    return math.ceil(blocks - 1e-9)


def _at_most(blocks: float) -> int:
    return math.floor(blocks + 1e-9)


# --- warm-up --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WarmUp:
    """Whether a point is warm.

    Attributes:
        state: "given_up" when the longest warm-up passed without agreement.
        w0: first block of the measurement window; None while warming up.
        settled: whether temperatures held still as well; None where none are known.
    """

    state: Literal["not_yet", "agreed", "given_up"]
    w0: int | None = None
    settled: bool | None = None


def warm_up(rates: Floats, limits: Limits, temperatures_c: Floats | None = None) -> WarmUp:
    """Whether the blocks so far show that a point is warm, and where its window begins.

    Two neighbouring windows A and B must have the same mean within `warmup_agree`, in the
    aggregate and at each worker; B then opens the measurement. Windows are tried from
    `warmup_min` on in steps of `warmup_advance_blocks`; past `warmup_max` the window begins there
    regardless. Blocks that come later never change an earlier answer.

    One worker among several is noisier than their sum, and one of many differs by chance alone:
    with 8 workers at a block sd of 1 % and phi 0.3 a plain 0.5 % is met in 21 % of runs, with 64
    never (simulated). A worker beyond `warmup_agree` therefore counts as warming up only when its
    change from A to B is clear at 5 % over all workers (Bonferroni); then all of these converge,
    and a ramp in one worker is waited for as far as it stands out of that worker's noise.

    Temperatures ask for at most 1 degree C in 10 s, softly: when they alone hold out to the end,
    the point is "agreed" at `warmup_max` with `settled` False.

    Args:
        rates: items/s of each block, shape (workers, k), from the common start on.
        limits: of the point.
        temperatures_c: of each worker's device in each block, same shape, NaN where unknown.
    """
    window, advance = limits.settings.warmup_window_blocks, limits.settings.warmup_advance_blocks
    quiet = False
    for start in range(limits.warmup_min, limits.warmup_max - window + 1, advance):
        if rates.shape[1] < start + 2 * window:
            return WarmUp("not_yet")
        quiet = _agree(rates[:, start : start + 2 * window], limits)
        if not quiet:
            continue
        settled = _settled(temperatures_c, start, limits)
        if settled is not False:
            return WarmUp("agreed", start + window, settled)
    if quiet:
        return WarmUp("agreed", limits.warmup_max, False)
    return WarmUp("given_up", limits.warmup_max)


def _agree(rates: Floats, limits: Limits) -> bool:
    """Whether both halves of `rates`, shape (workers, 2 * window), have the same mean."""
    agree, window = limits.settings.warmup_agree, limits.settings.warmup_window_blocks
    if _change(rates.sum(axis=0), window) > agree:
        return False
    workers = len(rates)
    if workers == 1:
        return True
    clear = intervals.t_quantile(1 - 0.025 / workers, window)
    return not any(
        _change(worker, window) > agree and trends.shift_of_halves(worker).z > clear
        for worker in rates
    )


def _change(x: Floats, window: int) -> float:
    a, b = float(x[:window].mean()), float(x[window:].mean())
    return abs(a / b - 1) if b > 0 else math.inf


def _settled(temperatures_c: Floats | None, start: int, limits: Limits) -> bool | None:
    if temperatures_c is None:
        return None
    window = limits.settings.warmup_window_blocks
    a = temperatures_c[:, start : start + window]
    b = temperatures_c[:, start + window : start + 2 * window]
    known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    if not known.any():
        return None
    allowed = max(SETTLED_C_PER_10_S * window * limits.span_s / 10, SENSOR_C)
    return bool((np.abs(b[known].mean(axis=1) - a[known].mean(axis=1)) <= allowed).all())


# --- measurement and stop -------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """What one look saw in the window so far.

    Attributes:
        blocks: in the window.
        interval: of the mean aggregate rate.
        step: best single shift; none where there is no interval.
        drift: linear trend; none where there is no interval.
        flags: raised by these numbers against the full target, in the order of `FLAGS`.
    """

    blocks: int
    interval: Interval
    step: LevelShift
    drift: Drift
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Stop:
    """What the looks so far have decided.

    Attributes:
        state: "measuring" goes on; the other two end the window at `last.blocks`.
        looks: looks taken.
        good: looks in a row, up to the last, that found the target met.
        last: the last look; None before the first.
    """

    state: Literal["measuring", "target_met", "time_up"] = "measuring"
    looks: int = 0
    good: int = 0
    last: Look | None = None


def look(aggregate: Floats, settings: MeasureSettings) -> Look:
    """Look at a window: aggregate block rates, shape (n,), n >= 1, in time order."""
    interval = intervals.mean_ci(aggregate)
    if not math.isfinite(interval.half_width):
        nothing = trends.LevelShift(0, 0.0, 0.0), trends.Drift(0.0, 0.0)
        return Look(len(aggregate), interval, *nothing, ("few_neff",))
    step, drift = trends.largest_shift(aggregate), trends.drift(aggregate)
    raised = {
        "step": abs(step.relative) >= STEP_LEAST and step.z > STEP_Z,
        "drift": abs(drift.relative) >= DRIFT_LEAST and drift.z > DRIFT_Z,
        "wide_ci": interval.relative > settings.target,
        "few_neff": interval.n_eff < settings.n_eff_min,
    }
    return Look(len(aggregate), interval, step, drift, _sorted(f for f, up in raised.items() if up))


def stop_rule(stop: Stop, aggregate: Floats, limits: Limits) -> Stop:
    """Take every look that is due and tell whether to go on.

    Looks stand at fixed numbers of blocks and each sees exactly that many, however many more have
    come in: at `measure_min`, then every `look` blocks, and at `measure_max`. `looks_in_a_row`
    good ones end the window; a look is good without flags and within `Limits.target`.

    Args:
        stop: what was decided before; `Stop()` at first.
        aggregate: items/s of all workers in each block of the window, shape (n,), never re-cut.
        limits: of the point.
    """
    while stop.state == "measuring":
        due = limits.next_look(stop.last.blocks if stop.last else 0)
        if due is None or due > len(aggregate):
            break
        seen = look(aggregate[:due], limits.settings)
        met = not seen.flags and seen.interval.relative <= limits.target(due)
        good = stop.good + 1 if met else 0
        state: Literal["measuring", "target_met", "time_up"] = "measuring"
        if good >= limits.settings.looks_in_a_row:
            state = "target_met"
        elif due >= limits.measure_max:
            state = "time_up"
        stop = Stop(state, stop.looks + 1, good, seen)
    return stop


def due_s(warm: WarmUp, stop: Stop, limits: Limits) -> float:
    """When the block ends that the next look waits for, in seconds from the common start.

    Infinite while warming up: windows are placed by block, so nothing is lost by seeing it late.
    """
    blocks = limits.next_look(stop.last.blocks if stop.last else 0)
    if warm.w0 is None or blocks is None:
        return math.inf
    return (warm.w0 + blocks) * limits.span_s


# --- flags and verdict ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Flag:
    """A finding about one trial.

    Attributes:
        group: "blocking" and "target_missed" make a row unstable; "information" does not touch the
            verdict.
        meaning: one line.
    """

    group: Literal["blocking", "target_missed", "information"]
    meaning: str


FLAGS: Final[Mapping[str, Flag]] = MappingProxyType(
    {
        "warmup_not_converged": Flag(
            "blocking", "Throughput still moved when the longest warm-up had passed."
        ),
        "step": Flag("blocking", "Throughput shifted by 1 % or more inside the window."),
        "drift": Flag("blocking", "Throughput drifted by 0.5 % or more over the window."),
        "throttled_thermal": Flag("blocking", "Heat held the device back in over 1 % of samples."),
        "throttled_hw": Flag(
            "blocking", "Hardware or power brake slowed the device in over 1 % of samples."
        ),
        "foreign_process": Flag("blocking", "Another process used the device."),
        "foreign_load": Flag("blocking", "Others used over 5 % of the workers' own cores."),
        "clock_skew": Flag("blocking", "Clocks of the hosts moved against one another."),
        "wrong_outputs": Flag("blocking", "The outputs are under 10 dB from those of fp32."),
        "wide_ci": Flag("target_missed", "The confidence interval is wider than the target."),
        "few_neff": Flag("target_missed", "The window is worth too few independent blocks."),
        "few_batches": Flag("information", "Too few batches for the 99th percentile."),
        "throttled_power": Flag(
            "information", "The power limit held the clock in over 1 % of samples; often normal."
        ),
        "clock_low": Flag("information", "The mean clock was below 75 % of the highest."),
        "clock_varied": Flag("information", "The clock moved during the window."),
        "node_load": Flag("information", "Others used over 10 % of all CPUs of a node."),
        "steal": Flag("information", "Other virtual machines took over 1 % of the workers' cores."),
        "uneven": Flag(
            "information", "Workers differ in their devices or in versions of libraries or drivers."
        ),
        "lowered_priority": Flag("information", "The workers yield to other processes (niceness)."),
        "temp_rising": Flag("information", "The device was still warming when measuring began."),
        "imbalance": Flag("information", "The fastest worker beat the slowest by more than 5 %."),
        "host_bound": Flag("information", "The device waited for the host over 5 % of the time."),
        "enqueue_bound": Flag("information", "Submitting a batch took over 80 % of computing it."),
        "copy_bound": Flag(
            "information", "Copying a batch in or out took as long as computing it."
        ),
        "compute_varied": Flag("information", "The time to compute a batch varied by over 2.5 %."),
        "ecc_error": Flag("information", "The device reported memory errors."),
        "telemetry_gap": Flag("information", "Device readings are missing for part of the window."),
        "energy_mismatch": Flag("information", "Energy counter and sampled power disagree."),
        "harness_cost": Flag("information", "The measuring loop takes over 1 % of a batch's time."),
        "outliers": Flag("information", "Some blocks lie far from the rest; they were kept."),
        "precision_only": Flag("information", "One trial: says nothing of reproducibility."),
    }
)
"""Every flag that a row may carry."""

_ORDER = {name: place for place, name in enumerate(FLAGS)}


def _sorted(flags: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(flags), key=_ORDER.__getitem__))


@dataclass(frozen=True)
class Evidence:
    """What is known of one trial when its window has ended; None where it is not known.

    Attributes:
        warm: how the warm-up ended.
        last: the look that ended the window.
        trials: how many the experiment has.
        latencies: batches in the window.
        outlier_blocks: blocks far from the rest.
        imbalance: fastest worker's rate over the slowest's, minus 1.
        throttled_power_frac: share of samples that name the power limit; worst device.
        throttled_thermal_frac: share of samples that name heat; worst device.
        throttled_hw_frac: share of samples that name hardware or power brake; worst device.
        clock_frac: mean clock over the highest; worst device.
        clock_cv: standard deviation of the clock over its mean; worst device.
        telemetry_gap_s: longest time without a reading in the window.
        energy_check_rel: integral of sampled power over the counter, minus 1.
        foreign_processes: others with a context on a device.
        ecc_errors: uncorrected memory errors in the stream.
        foreign_load_frac: of the workers' own cores, used by others; None where the device is no
            core.
        node_load_frac: of all CPUs of a node, used by others; worst node. None likewise.
        clock_skew: worst move of a worker's clock against the driver's, over the time.
        steal_frac: of the workers' own CPUs, given to other machines; None likewise.
        nice: niceness of the workers.
        host_idle_frac: share of the window in which the device had nothing to do.
        enqueue_frac: median time to submit a batch over the median time to compute it.
        copy_frac: median time of the slower copy of a batch over the median time to compute it.
        compute_cov: standard deviation of the device's compute time over its mean.
        harness_frac: time of the measuring loop over that of a batch.
        fidelity_db: signal to noise of the first outputs against fp32.
        uneven: the workers' devices or software differ.
    """

    warm: WarmUp
    last: Look
    trials: int | None = None
    latencies: int | None = None
    outlier_blocks: int | None = None
    imbalance: float | None = None
    throttled_power_frac: float | None = None
    throttled_thermal_frac: float | None = None
    throttled_hw_frac: float | None = None
    clock_frac: float | None = None
    clock_cv: float | None = None
    telemetry_gap_s: float | None = None
    energy_check_rel: float | None = None
    foreign_processes: int | None = None
    ecc_errors: int | None = None
    foreign_load_frac: float | None = None
    node_load_frac: float | None = None
    steal_frac: float | None = None
    clock_skew: float | None = None
    nice: int | None = None
    host_idle_frac: float | None = None
    enqueue_frac: float | None = None
    copy_frac: float | None = None
    compute_cov: float | None = None
    harness_frac: float | None = None
    fidelity_db: float | None = None
    uneven: bool = False


def evidence(
    warm: WarmUp, last: Look, trials: int, columns: Mapping[str, Any], kind: str
) -> Evidence:
    """What the columns of a trial say, gathered.

    Args:
        warm: how the warm-up ended.
        last: the look that ended the window.
        trials: how many the experiment has.
        columns: of `trials`; one that is missing is unknown.
        kind: of the device: "gpu" or "cpu". Only a core is disturbed by load on its own CPUs.
    """
    of_cores = kind == "cpu"
    return Evidence(
        warm=warm,
        last=last,
        trials=trials,
        latencies=columns.get("latency_n"),
        outlier_blocks=columns.get("outlier_blocks"),
        imbalance=columns.get("imbalance"),
        throttled_power_frac=columns.get("throttle_power_frac"),
        throttled_thermal_frac=columns.get("throttle_thermal_frac"),
        throttled_hw_frac=columns.get("throttle_hw_frac"),
        clock_frac=columns.get("clock_frac"),
        clock_cv=columns.get("clock_cv"),
        telemetry_gap_s=columns.get("telemetry_gap_s"),
        energy_check_rel=columns.get("energy_check_rel"),
        foreign_processes=columns.get("foreign_processes"),
        ecc_errors=columns.get("ecc_errors"),
        foreign_load_frac=columns.get("foreign_load_frac") if of_cores else None,
        node_load_frac=columns.get("node_load_frac") if of_cores else None,
        steal_frac=columns.get("steal_frac") if of_cores else None,
        clock_skew=columns.get("clock_skew"),
        nice=columns.get("nice"),
        host_idle_frac=columns.get("host_idle_frac"),
        enqueue_frac=_of_compute(columns, "enqueue_ms_median"),
        copy_frac=_of_compute(columns, "h2d_ms_median", "d2h_ms_median"),
        compute_cov=columns.get("compute_cov"),
        harness_frac=_harness_frac(columns),
        fidelity_db=columns.get("fidelity_sqnr_db"),
    )


def _of_compute(columns: Mapping[str, Any], *names: str) -> float | None:
    """The longest of some times over the device's compute time; None without a device clock."""
    compute_ms = columns.get("compute_ms_median")
    known = [columns[name] for name in names if columns.get(name) is not None]
    return max(known) / compute_ms if known and compute_ms else None


def _harness_frac(columns: Mapping[str, Any]) -> float | None:
    cost_us, rate = columns.get("harness_us_per_batch"), columns.get("items_per_s_per_worker")
    if cost_us is None or not rate:
        return None
    batches_per_s = rate * columns["batches"] / columns["items"]
    return float(cost_us * 1e-6 * batches_per_s)


def flags(evidence: Evidence) -> tuple[str, ...]:
    """Every flag that the evidence raises, in the order of `FLAGS`. What is unknown raises none."""
    least = intervals.percentile_least(0.99)
    raised = {
        "warmup_not_converged": evidence.warm.state != "agreed",
        "temp_rising": evidence.warm.settled is False,
        "throttled_thermal": _above(evidence.throttled_thermal_frac, THROTTLED_FRAC),
        "throttled_hw": _above(evidence.throttled_hw_frac, THROTTLED_FRAC),
        "throttled_power": _above(evidence.throttled_power_frac, THROTTLED_FRAC),
        "foreign_process": _above(evidence.foreign_processes, 0),
        "foreign_load": _above(evidence.foreign_load_frac, FOREIGN_LOAD),
        "node_load": _above(evidence.node_load_frac, NODE_LOAD),
        "clock_skew": _above(evidence.clock_skew, CLOCK_SKEW),
        "steal": _above(evidence.steal_frac, STEAL),
        "wrong_outputs": evidence.fidelity_db is not None
        and evidence.fidelity_db < FIDELITY_LEAST_DB,
        "uneven": evidence.uneven,
        "lowered_priority": _above(evidence.nice, 0),
        "clock_low": evidence.clock_frac is not None and evidence.clock_frac < CLOCK_LOW,
        "clock_varied": _above(evidence.clock_cv, CLOCK_VARIED),
        "ecc_error": _above(evidence.ecc_errors, 0),
        "telemetry_gap": _above(evidence.telemetry_gap_s, GAP_S),
        "energy_mismatch": _above(_size(evidence.energy_check_rel), ENERGY_CHECK),
        "few_batches": evidence.latencies is not None and evidence.latencies < least,
        "imbalance": _above(evidence.imbalance, IMBALANCE),
        "host_bound": _above(evidence.host_idle_frac, HOST_BOUND_FRAC),
        "enqueue_bound": _above(evidence.enqueue_frac, ENQUEUE_BOUND),
        "copy_bound": evidence.copy_frac is not None and evidence.copy_frac >= 1,
        "compute_varied": _above(evidence.compute_cov, COMPUTE_VARIED),
        "harness_cost": _above(evidence.harness_frac, HARNESS_COST),
        "outliers": _above(evidence.outlier_blocks, 0),
        "precision_only": evidence.trials == 1,
    }
    found = {flag for flag, up in raised.items() if up}
    return _sorted(found | set(evidence.last.flags))


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _above(value: float | None, threshold: float) -> bool:
    return value is not None and value > threshold


def verdict(flags: Collection[str], best: str = "stable") -> str:
    """The verdict on a row that has a number: "stable", "unstable" or "unverified".

    Args:
        flags: of the row, each a name in `FLAGS`.
        best: the best verdict of the preset (`MeasureSettings.verdict_best`).
    """
    groups = {FLAGS[flag].group for flag in flags}
    return "unstable" if groups & {"blocking", "target_missed"} else best


def advice(flags: Collection[str], evidence: Evidence, limits: Limits) -> str | None:
    """What to do about a row that is not stable, in one sentence; None for a stable row.

    Speaks of the gravest flag only, which is the first in the order of `FLAGS`.
    """
    match verdict(flags, limits.settings.verdict_best):
        case "stable":
            return None
        case "unstable":
            grave = [f for f in _sorted(flags) if FLAGS[f].group in ("blocking", "target_missed")]
            return _ADVICE[grave[0]](evidence, limits)
        case _:
            return "This preset shows the tool and vouches for nothing: use preset=standard."


def _advise_warmup(_evidence: Evidence, limits: Limits) -> str:
    longer = 2 * limits.settings.warmup_max_s
    return (
        f"Throughput had not settled after {limits.settings.warmup_max_s * limits.scale:g} s: "
        f"allow a longer warm-up (measure.warmup_max_s={longer:g}) or look for other load."
    )


def _advise_step(evidence: Evidence, limits: Limits) -> str:
    step = evidence.last.step
    return (
        f"Throughput shifted by {step.relative:+.1%} after {step.index * limits.span_s:.0f} s of the "
        "window: look for throttling or other load at that time and run again."
    )


def _advise_drift(evidence: Evidence, limits: Limits) -> str:
    longer = 2 * limits.settings.warmup_max_s
    return (
        f"Throughput drifted by {evidence.last.drift.relative:+.1%} over the window: warm up longer "
        f"(measure.warmup_min_s={limits.settings.warmup_max_s:g} measure.warmup_max_s={longer:g}) "
        "or cool the device better."
    )


def _advise_thermal(evidence: Evidence, _limits: Limits) -> str:
    return (
        f"Heat held the device back{_samples(evidence.throttled_thermal_frac)}: "
        "cool it better or lower its power limit."
    )


def _advise_hw(evidence: Evidence, _limits: Limits) -> str:
    return (
        f"Hardware slowed the device{_samples(evidence.throttled_hw_frac)}: "
        "check its power supply, cables and cooling."
    )


def _samples(fraction: float | None) -> str:
    return "" if fraction is None else f" in {fraction:.0%} of samples"


def _advise_foreign(_evidence: Evidence, _limits: Limits) -> str:
    return "Another process used the device: end it or take the device for yourself, and run again."


def _advise_load(evidence: Evidence, _limits: Limits) -> str:
    share = evidence.foreign_load_frac
    return (
        f"Others used {'part' if share is None else f'{share:.0%}'} of the workers' own cores: end "
        "the other work, or leave a core to it (cluster.cpus=N), and run again."
    )


def _advise_clocks(evidence: Evidence, _limits: Limits) -> str:
    skew = evidence.clock_skew
    share = "" if skew is None else f" by {skew:.2%} of the time"
    return (
        f"The clocks of the hosts moved against one another{share}: check time synchronisation "
        "(chrony) and that no virtual machine was paused, and run again."
    )


def _advise_outputs(evidence: Evidence, _limits: Limits) -> str:
    far = "far" if evidence.fidelity_db is None else f"{evidence.fidelity_db:.0f} dB"
    return (
        f"The outputs are {far} from those of the fp32 graph: this engine "
        "computes something else, so its rate says nothing. Use another precision, engine or version."
    )


def _advise_wide(evidence: Evidence, limits: Limits) -> str:
    relative, target = evidence.last.interval.relative, limits.settings.target
    # the half-width falls with the square root of the time
    return (
        f"The interval is {_half(relative)} where {_half(target)} is wanted: "
        f"{_longer((relative / target) ** 2, evidence, limits)}."
    )


def _advise_few(evidence: Evidence, limits: Limits) -> str:
    worth, wanted = evidence.last.interval.n_eff, limits.settings.n_eff_min
    blocks, least = evidence.last.blocks, intervals.NBM_BATCHES
    times = max(wanted / worth, least / blocks)
    if blocks < least:
        return (
            f"The window has {blocks} blocks and an interval needs {least}: "
            f"{_longer(times, evidence, limits)}."
        )
    return (
        f"The window is worth {worth:.1f} independent blocks where {wanted:g} are wanted: "
        f"{_longer(times, evidence, limits)}."
    )


def _half(relative: float) -> str:
    return f"±{relative:.2%}" if math.isfinite(relative) else "unknown"


def _longer(times: float, evidence: Evidence, limits: Limits) -> str:
    if not math.isfinite(times):
        return "no batch was completed in time, use a smaller batch_size"
    times = max(times, 1.1)
    seconds = times * evidence.last.blocks * limits.span_s / limits.scale
    if times > 20:
        return f"{times:.0f} times the length would be needed, look for other load first"
    shown = math.ceil(max(seconds, limits.settings.max_s) / 10) * 10
    return f"measure {times:.1f} times longer (measure.max_s={shown})"


_ADVICE: Final[Mapping[str, Callable[[Evidence, Limits], str]]] = MappingProxyType(
    {
        "warmup_not_converged": _advise_warmup,
        "step": _advise_step,
        "drift": _advise_drift,
        "throttled_thermal": _advise_thermal,
        "throttled_hw": _advise_hw,
        "foreign_process": _advise_foreign,
        "foreign_load": _advise_load,
        "clock_skew": _advise_clocks,
        "wrong_outputs": _advise_outputs,
        "wide_ci": _advise_wide,
        "few_neff": _advise_few,
    }
)
